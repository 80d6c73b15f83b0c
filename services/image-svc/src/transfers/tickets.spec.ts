import { describe, expect, it } from 'vitest';
import { Tickets } from './tickets.js';

function tickets() {
  const clock = { now: 0 };
  return { clock, tickets: new Tickets<string>(() => clock.now) };
}

describe('Tickets', () => {
  it('are good once, each for its own', () => {
    const { tickets: some } = tickets();
    const [a, b] = [some.issue('a'), some.issue('b')];
    expect(a).toMatch(/^[\w-]{43}$/);
    expect(a).not.toBe(b);
    expect([some.take(b), some.take(b), some.take(a), some.take(a)]).toEqual(['b', undefined, 'a', undefined]);
  });

  it('are good for a minute', () => {
    const { tickets: some, clock } = tickets();
    const [early, late] = [some.issue('early'), some.issue('late')];
    clock.now = 59_999;
    expect(some.take(early)).toBe('early');
    clock.now = 60_000;
    expect(some.take(late)).toBeUndefined();
  });

  it('are not kept for ever when nobody takes them', () => {
    const { tickets: some, clock } = tickets();
    for (clock.now = 0; clock.now < 600_000; clock.now += 1000) some.issue('x');
    expect((some as unknown as { granted: Map<string, unknown> }).granted.size).toBeLessThanOrEqual(61);
  });

  it('are not guessed', () => {
    const { tickets: some } = tickets();
    const ticket = some.issue('a');
    for (const guess of ['', 'x', ticket.slice(1), `${ticket}A`, ticket.toUpperCase()]) {
      expect(some.take(guess)).toBeUndefined();
    }
  });
});
