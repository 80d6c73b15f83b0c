import * as fc from 'fast-check';
import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { SecretBox } from './secret-box.js';

const key = randomBytes(32).toString('hex');
const box = new SecretBox(key);

describe('a sealed secret', () => {
  it('opens with the key and the identity that it was sealed with', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string(), (plain, identity) => {
        expect(new SecretBox(key).open(box.seal(plain, identity), identity)).toBe(plain);
      }),
    );
  });

  it('does not open in another row, nor with another key', () => {
    const sealed = box.seal('hunter2', 'bmc node-1');
    expect(() => box.open(sealed, 'bmc node-2')).toThrow(/authenticate/);
    expect(() => new SecretBox(randomBytes(32).toString('hex')).open(sealed, 'bmc node-1')).toThrow(/authenticate/);
  });

  it('does not open when a single bit was changed, wherever', () => {
    const sealed = box.seal('hunter2', 'x');
    for (let at = 0; at < sealed.length; at += 1) {
      const tampered = Buffer.from(sealed);
      tampered.writeUInt8(tampered.readUInt8(at) ^ 1, at);
      expect(() => box.open(tampered, 'x')).toThrow(/authenticate/);
    }
  });

  it('does not open when it was cut short', () => {
    const sealed = box.seal('hunter2', 'x');
    for (const length of [0, 11, 12, 27, 28, sealed.length - 1])
      expect(() => box.open(sealed.subarray(0, length), 'x')).toThrow(Error);
  });

  it('looks different each time, and shows nothing of the secret', () => {
    const boxes = Array.from({ length: 50 }, () => box.seal('hunter2', 'x').toString('hex'));
    expect(new Set(boxes).size).toBe(50);
    expect(boxes.some((sealed) => sealed.includes(Buffer.from('hunter2').toString('hex')))).toBe(false);
  });

  it('tells equal texts from others, and nothing to who has another key', () => {
    const [one, other] = ['0', '1'].map((digit) => new SecretBox(digit.repeat(64)));
    expect(one!.fingerprint('a').equals(one!.fingerprint('a'))).toBe(true);
    expect(one!.fingerprint('a').equals(one!.fingerprint('b'))).toBe(false);
    expect(one!.fingerprint('a').equals(other!.fingerprint('a'))).toBe(false);
  });
});
