import {
  appendFileSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lastLines, limitLogs, logFile, logNames, readLogs, rotateLog, writeLine } from './logs.js';
import { ensureState, type Paths } from './state.js';

let dir: string;
let paths: Paths;
const file = () => logFile(paths, 'image');
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'm2g-'));
  paths = ensureState(dir);
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe('logs', () => {
  it('begin afresh at a start, and the one before is kept', () => {
    writeFileSync(file(), 'first\n');
    rotateLog(paths, 'image');
    rotateLog(paths, 'image');
    expect(lastLines(paths, 'image', 10)).toEqual([]);
    expect(readFileSync(`${file()}.1`, 'utf8')).toBe('first\n');
    writeFileSync(file(), 'second\n');
    expect(logNames(paths)).toEqual(['image']);
  });

  it('are cut off when they are too long, under the hands of who writes them', async () => {
    const writer = openSync(file(), 'a');
    writeSync(writer, `${'x'.repeat(100)}\n`);
    await limitLogs(paths, 1_000);
    expect(lastLines(paths, 'image', 1)).toHaveLength(1);
    await limitLogs(paths, 100);
    writeSync(writer, 'and on\n');
    closeSync(writer);
    expect(readFileSync(file(), 'utf8')).toBe('and on\n');
    expect(readFileSync(`${file()}.1`, 'utf8')).toBe(`${'x'.repeat(100)}\n`);
  });

  it('are cut off without a copy where none can be written, as on a full disk', async () => {
    writeFileSync(file(), 'a long line\n');
    mkdirSync(`${file()}.1`);
    await limitLogs(paths, 1);
    expect(readFileSync(file(), 'utf8')).toBe('');
  });

  it('take lines of the supervisor, which goes on when they cannot', () => {
    writeLine(paths, 'supervisor', 'one');
    expect(lastLines(paths, 'supervisor', 1)[0]).toMatch(/^\S+Z one$/);
    mkdirSync(file());
    writeLine(paths, 'image', 'nowhere');
  });

  it('give their last lines, and whole ones only', () => {
    writeFileSync(file(), Array.from({ length: 30_000 }, (_, number) => `line ${number}`).join('\n'));
    expect(lastLines(paths, 'image', 2)).toEqual(['line 29998', 'line 29999']);
    const many = lastLines(paths, 'image', 1_000_000);
    expect(many.length).toBeGreaterThan(1_000);
    expect(many.filter((line) => !/^line \d{5}$/.test(line))).toEqual([]);
    expect(lastLines(paths, 'nothing', 5)).toEqual([]);
  });

  it('are followed in whole lines, through a cut', async () => {
    writeFileSync(file(), 'old\n');
    const stop = new AbortController();
    const lines = readLogs(paths, ['image'], { lines: 10, follow: true, signal: stop.signal });
    const next = async () => (await lines.next()).value as unknown;
    expect(await next()).toEqual({ name: 'image', line: 'old' });
    const first = next();
    appendFileSync(file(), 'half');
    appendFileSync(file(), ' and half\n');
    expect(await first).toEqual({ name: 'image', line: 'half and half' });
    const second = next();
    await limitLogs(paths, 1);
    appendFileSync(file(), 'new\n');
    expect(await second).toEqual({ name: 'image', line: 'new' });
    stop.abort();
    expect(await lines.next()).toMatchObject({ done: true });
  });
});
