import { EventEmitter, once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { Locks } from './locks.js';

/** Work that goes on until it is told to end, and notes when it begins. */
function work(name: string, began: string[]) {
  const gate = new EventEmitter();
  const ended = once(gate, 'end');
  return {
    end: () => gate.emit('end'),
    run: async () => {
      began.push(name);
      await ended;
      return name;
    },
  };
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

describe('Locks', () => {
  it('lets one in at a time, in the order they came, and each key by itself', async () => {
    const locks = new Locks();
    const began: string[] = [];
    const [a, b, other] = [work('a', began), work('b', began), work('other', began)];
    const runs = [locks.exclusive('k', a.run), locks.exclusive('k', b.run), locks.exclusive('l', other.run)];
    await settle();
    expect(began).toEqual(['a', 'other']);
    a.end();
    await settle();
    expect(began).toEqual(['a', 'other', 'b']);
    b.end();
    other.end();
    expect(await Promise.all(runs)).toEqual(['a', 'b', 'other']);
  });

  it('lets readers in together, and none past a writer who waits', async () => {
    const locks = new Locks();
    const began: string[] = [];
    const [r1, r2, w, r3, r4] = ['r1', 'r2', 'w', 'r3', 'r4'].map((name) => work(name, began)) as ReturnType<
      typeof work
    >[];
    const runs = [
      locks.shared('k', r1!.run),
      locks.shared('k', r2!.run),
      locks.exclusive('k', w!.run),
      locks.shared('k', r3!.run),
      locks.shared('k', r4!.run),
    ];
    await settle();
    expect(began).toEqual(['r1', 'r2']);
    r1!.end();
    await settle();
    expect(began).toEqual(['r1', 'r2']);
    r2!.end();
    await settle();
    expect(began).toEqual(['r1', 'r2', 'w']);
    w!.end();
    await settle();
    expect(began).toEqual(['r1', 'r2', 'w', 'r3', 'r4']);
    r3!.end();
    r4!.end();
    await Promise.all(runs);
  });

  it('lets go after an error', async () => {
    const locks = new Locks();
    await expect(locks.exclusive('k', () => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
    expect(await locks.exclusive('k', async () => 'in')).toBe('in');
  });

  it('work of one name waits for each other, also after a failure; that of others does not', async () => {
    const locks = new Locks();
    const [seen, gate]: [string[], PromiseWithResolvers<void>] = [[], Promise.withResolvers<void>()];
    const first = locks.exclusive('a', async () => {
      await gate.promise;
      seen.push('first');
      throw new Error('failed');
    });
    const second = locks.exclusive('a', async () => void seen.push('second'));
    await locks.exclusive('b', async () => void seen.push('other'));
    expect(seen).toEqual(['other']);
    gate.resolve();
    await expect(first).rejects.toThrow('failed');
    await second;
    expect(seen).toEqual(['other', 'first', 'second']);
  });

  it('forgets who gave up waiting, and lets in who stands behind', async () => {
    const locks = new Locks();
    const began: string[] = [];
    const [first, impatient, last] = [work('first', began), work('impatient', began), work('last', began)];
    const patience = new AbortController();
    const running = locks.exclusive('k', first.run);
    const waiting = locks.exclusive('k', impatient.run, () => patience.signal);
    const behind = locks.exclusive('k', last.run);
    patience.abort(new Error('gave up'));
    await expect(waiting).rejects.toThrow('gave up');
    await expect(locks.exclusive('k', impatient.run, () => patience.signal)).rejects.toThrow('gave up');
    first.end();
    last.end();
    await Promise.all([running, behind]);
    expect(began).toEqual(['first', 'last']);
  });

  it('settled waits for all that is running or queued, with or without an error', async () => {
    const locks = new Locks();
    let done = false;
    const failing = locks.exclusive('a', () => Promise.reject(new Error('failed')));
    const working = locks.exclusive('b', async () => void (done = true));
    await locks.settled();
    expect(done).toBe(true);
    await expect(failing).rejects.toThrow('failed');
    await working;
  });
});
