import { describe, expect, it } from 'vitest';
import { Room } from './room.js';

const never = new AbortController().signal;

/** Work that lasts until the test ends it. */
function work(log: string[], name: string) {
  const { promise, resolve } = Promise.withResolvers<void>();
  const run = async () => {
    log.push(`+${name}`);
    await promise;
    log.push(`-${name}`);
  };
  return { run, end: resolve };
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

describe('Room', () => {
  it('lets in as many as its limit says, in order', async () => {
    const room = new Room(2);
    const log: string[] = [];
    const works = ['a', 'b', 'c'].map((name) => work(log, name));
    const all = works.map(({ run }) => room.with(never, run));
    await settle();
    expect(log).toEqual(['+a', '+b']);
    works[1]!.end();
    await settle();
    expect(log).toEqual(['+a', '+b', '-b', '+c']);
    for (const { end } of works) end();
    await Promise.all(all);
  });

  it('goes on after work that failed', async () => {
    const room = new Room(1);
    await expect(room.with(never, () => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
    expect(await room.with(never, () => Promise.resolve('done'))).toBe('done');
  });

  it('forgets who gave up waiting, and does not let in who gave up before', async () => {
    const room = new Room(1);
    const log: string[] = [];
    const first = work(log, 'first');
    const running = room.with(never, first.run);
    const patience = new AbortController();
    const waiting = room.with(patience.signal, work(log, 'impatient').run);
    patience.abort(new Error('gave up'));
    await expect(waiting).rejects.toThrow('gave up');
    await expect(room.with(patience.signal, work(log, 'impatient').run)).rejects.toThrow('gave up');
    first.end();
    await running;
    expect(await room.with(never, () => Promise.resolve(log))).toEqual(['+first', '-first']);
  });
});
