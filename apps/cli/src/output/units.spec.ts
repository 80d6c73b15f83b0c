import { describe, expect, it } from 'vitest';
import { formatAge, formatBytes, formatDuration, parseSize } from './units.js';

describe('parseSize', () => {
  it.each([
    ['512', 512],
    ['1k', 1024],
    ['20G', 20 * 2 ** 30],
    ['20 GiB', 20 * 2 ** 30],
    ['20GB', 20e9],
    ['1.5T', 1.5 * 2 ** 40],
    ['10b', 10],
  ])('%s is %i bytes', (text, bytes) => expect(parseSize(text)).toBe(bytes));

  it.each(['', '0', '-1', 'G', '20X', '20 G B', '1.3', '0x10', '1e9', '20G\n20G'])('refuses %j', (text) => {
    expect(() => parseSize(text)).toThrow('Give a size');
  });

  it('says of one that is too large that it is too large', () => {
    expect(() => parseSize('99999999P')).toThrow('Give less');
  });
});

describe('for people', () => {
  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1536, '1.5 KiB'],
    [20 * 2 ** 30, '20 GiB'],
    [123.4 * 2 ** 20, '123 MiB'],
  ])('%i bytes are %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  it.each([
    [-5, '0.00 s'],
    [20, '0.02 s'],
    [12_345, '12.3 s'],
    [125_000, '2 min 05 s'],
    [3_780_000, '1 h 03 min'],
  ])('%i ms are %s', (milliseconds, text) => expect(formatDuration(milliseconds)).toBe(text));

  it.each([
    [1, 'just now'],
    [59, '59 s ago'],
    [3599, '59 min ago'],
    [7200, '2 h ago'],
    [200_000, '2 d ago'],
    [-60, 'just now'],
  ])('%i seconds back is %s', (seconds, text) => {
    const now = Date.parse('2026-11-22T12:00:00Z');
    expect(formatAge(new Date(now - seconds * 1000).toISOString(), now)).toBe(text);
  });
});
