import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TargetError } from '../target.port.js';
import { checkValue, decodeReply, encodeRequest, replyError } from './tgt-protocol.js';

const u32 = (bytes: Buffer, at: number) => bytes.readUInt32LE(at);

function reply(error: number, text: string): Buffer {
  const body = Buffer.from(text);
  const header = Buffer.alloc(8);
  header.writeUInt32LE(error, 0);
  header.writeUInt32LE(8 + body.length, 4);
  return Buffer.concat([header, body]);
}

/** A value that the parameter string cannot carry. */
const forbidden = fc.constantFrom(',', '=', '\0', '\n', '\r', '\t', '\u001b', '\u007f', '\u0085', '\u2028');
const hostile = fc
  .tuple(fc.string({ unit: 'grapheme' }), forbidden, fc.string({ unit: 'grapheme' }))
  .map(([before, bad, after]) => before + bad + after);
const harmless = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 60 })
  // oxlint-disable-next-line no-control-regex -- control characters are what it leaves out
  .map((text) => text.replaceAll(/[,=\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, '.'));

describe('encodeRequest', () => {
  it('lays out the header as usr/tgtadm.h does', () => {
    const params = { path: '/disk', bstype: 'rdwr' };
    const bytes = encodeRequest({ mode: 'logicalunit', op: 'new', tid: 7, sid: 8, lun: 1, cid: 9, params });
    expect([u32(bytes, 0), u32(bytes, 4)]).toEqual([2, 0]);
    expect(bytes.toString('latin1', 8, 72)).toBe('iscsi'.padEnd(64, '\0'));
    expect(u32(bytes, 72)).toBe(bytes.length);
    expect(bytes.readInt32LE(76)).toBe(7);
    expect([bytes.readBigUInt64LE(80), bytes.readBigUInt64LE(88), u32(bytes, 96)]).toEqual([8n, 1n, 9]);
    expect(bytes.subarray(100, 120)).toEqual(Buffer.alloc(20));
    expect(bytes.toString('utf8', 120)).toBe('path=/disk,bstype=rdwr\0');
  });

  it('is a bare header about all targets without parameters', () => {
    const bytes = encodeRequest({ mode: 'target', op: 'show' });
    expect(bytes).toHaveLength(120);
    expect(bytes.readInt32LE(76)).toBe(-1);
  });

  it('encodes no value that would be read as something else', () => {
    fc.assert(
      fc.property(hostile, (value) => {
        expect(() => encodeRequest({ mode: 'account', op: 'new', params: { user: 'a', password: value } })).toThrow(
          'tgt cannot hold this password',
        );
      }),
    );
  });

  it('carries every other value as it is, one parameter each', () => {
    fc.assert(
      fc.property(harmless, harmless, (user, password) => {
        const bytes = encodeRequest({ mode: 'account', op: 'new', params: { user, password } });
        expect(u32(bytes, 72)).toBe(bytes.length);
        expect(bytes.indexOf(0, 120)).toBe(bytes.length - 1);
        const pairs = bytes.toString('utf8', 120, bytes.length - 1).split(',');
        expect(pairs.map((pair) => pair.split('='))).toEqual([
          ['user', user],
          ['password', password],
        ]);
      }),
    );
  });

  it('refuses what is empty, too long, or no Unicode, without repeating it', () => {
    for (const value of ['', 'x'.repeat(9000), '\ud800']) {
      expect(() => encodeRequest({ mode: 'target', op: 'new', params: { targetname: value } })).toThrow(TargetError);
    }
    expect(() => checkValue('secret', 'very,secret')).toThrow(/^(?!.*very)/);
  });
});

describe('decodeReply', () => {
  it('waits for the whole reply', () => {
    const bytes = reply(0, 'Target 1: iqn.2024-01.org.m2:a\n');
    for (let end = 0; end < bytes.length; end++) expect(decodeReply(bytes.subarray(0, end))).toBeUndefined();
    expect(decodeReply(bytes)).toEqual({ error: 0, text: 'Target 1: iqn.2024-01.org.m2:a\n' });
  });

  it('takes any bytes without throwing', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(() => decodeReply(Buffer.from(bytes))).not.toThrow();
      }),
    );
  });
});

describe('replyError', () => {
  const request = { mode: 'account', op: 'new', tid: 3, params: { user: 'u', password: 'secret' } } as const;

  it.each([
    [4, 'target.not_found', 'NO_TARGET'],
    [9, 'target.exists', 'TARGET_EXIST'],
    [14, 'target.exists', 'USER_EXIST'],
    [17, 'target.failed', 'INVALID_REQUEST'],
    [20, 'target.busy', 'LUN_ACTIVE'],
    [24, 'target.busy', 'PREVENT_REMOVAL'],
    [99, 'target.failed', 'number 99'],
  ])('gives %i the code %s', (number, code, name) => {
    const error = replyError(request, number);
    expect(error).toMatchObject({ code });
    expect(error.message).toContain(name);
    expect(error.message).not.toContain('secret');
  });
});
