import { describe, expect, it } from 'vitest';
import { identify, isAlive, killVerified } from './process-identity.js';

describe('the identity of a process', () => {
  it('is its own, for as long as it lives', () => {
    const me = identify(process.pid)!;
    expect(me.pid).toBe(process.pid);
    expect(isAlive(me)).toBe(true);
    expect(identify(1)!.identity).not.toBe(me.identity);
  });

  it('is nobody’s where nobody lives', () => {
    expect(identify(2 ** 22 + 1)).toBeUndefined();
  });

  it('of a dead process is not that of the one who has its number now, who is spared', () => {
    const dead = { pid: process.pid, identity: 'another boot/1' };
    expect(isAlive(dead)).toBe(false);
    killVerified(dead);
    expect(isAlive(identify(process.pid)!)).toBe(true);
  });
});
