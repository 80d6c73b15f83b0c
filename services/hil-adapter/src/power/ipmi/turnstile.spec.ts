import { describe, expect, it } from 'vitest';
import { Turnstile } from './turnstile.js';

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

describe('Turnstile', () => {
  it('lets in one at a time per key, in order', async () => {
    const turnstile = new Turnstile(8);
    const log: string[] = [];
    const [first, second] = [work(log, 'a1'), work(log, 'a2')];
    const both = [turnstile.pass('a', never, first.run), turnstile.pass('a', never, second.run)];
    second.end();
    await Promise.resolve();
    expect(log).toEqual(['+a1']);
    first.end();
    await Promise.all(both);
    expect(log).toEqual(['+a1', '-a1', '+a2', '-a2']);
  });

  it('lets other keys pass those who wait, up to the limit', async () => {
    const turnstile = new Turnstile(2);
    const log: string[] = [];
    const works = ['a', 'a', 'b', 'c'].map((key, index) => ({ key, ...work(log, `${key}${index}`) }));
    const all = works.map(({ key, run }) => turnstile.pass(key, never, run));
    await Promise.resolve();
    expect(log).toEqual(['+a0', '+b2']);
    for (const { end } of works) end();
    await Promise.all(all);
    expect(log.filter((line) => line.startsWith('+'))).toEqual(['+a0', '+b2', '+a1', '+c3']);
  });

  it('goes on after work that failed', async () => {
    const turnstile = new Turnstile(1);
    const failed = turnstile.pass('a', never, () => Promise.reject(new Error('broken')));
    await expect(failed).rejects.toThrow('broken');
    expect(await turnstile.pass('a', never, () => Promise.resolve('done'))).toBe('done');
  });

  it('forgets who gave up waiting', async () => {
    const turnstile = new Turnstile(1);
    const log: string[] = [];
    const first = work(log, 'first');
    const running = turnstile.pass('a', never, first.run);
    const patience = new AbortController();
    const waiting = turnstile.pass('a', patience.signal, work(log, 'impatient').run);
    patience.abort(new Error('gave up'));
    await expect(waiting).rejects.toThrow('gave up');
    first.end();
    await running;
    expect(await turnstile.pass('a', never, () => Promise.resolve(log))).toEqual(['+first', '-first']);
  });

  it('does not let in who gave up before', async () => {
    const turnstile = new Turnstile(1);
    const gaveUp = AbortSignal.abort(new Error('gave up'));
    await expect(turnstile.pass('a', gaveUp, () => Promise.resolve())).rejects.toThrow('gave up');
  });
});
