import { expect, it } from 'vitest';
import { Turns } from './turns.js';

it('works of one key wait for each other, also after a failure; others do not', async () => {
  const turns = new Turns();
  const [seen, gate]: [string[], PromiseWithResolvers<void>] = [[], Promise.withResolvers<void>()];
  const first = turns.take('a', async () => {
    await gate.promise;
    seen.push('first');
    throw new Error('failed');
  });
  const second = turns.take('a', async () => void seen.push('second'));
  await turns.take('b', async () => void seen.push('other'));
  expect(seen).toEqual(['other']);
  gate.resolve();
  await expect(first).rejects.toThrow('failed');
  await second;
  expect(seen).toEqual(['other', 'first', 'second']);
});

it('settled waits for all that is under way, well or not', async () => {
  const turns = new Turns();
  let done = false;
  const failing = turns.take('a', () => Promise.reject(new Error('failed')));
  const working = turns.take('b', async () => void (done = true));
  await turns.settled();
  expect(done).toBe(true);
  await expect(failing).rejects.toThrow('failed');
  await working;
});
