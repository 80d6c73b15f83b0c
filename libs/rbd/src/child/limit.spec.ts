import { expect, it } from 'vitest';
import pLimit from 'p-limit';

// What the calls of librbd rely on.
it('p-limit runs so many at a time, in order, and goes on after one that failed', async () => {
  const admit = pLimit(2);
  const begun: number[] = [];
  const ends: (() => void)[] = [];
  const work = (id: number) =>
    admit(async () => {
      begun.push(id);
      await new Promise<void>((resolve) => ends.push(resolve));
      if (id === 1) throw new Error('failed');
      return id;
    });
  const first = work(1);
  const others = [work(2), work(3), work(4)];
  await expect.poll(() => begun).toEqual([1, 2]);
  ends[0]!();
  await expect(first).rejects.toThrow('failed');
  await expect.poll(() => begun).toEqual([1, 2, 3]);
  ends[1]!();
  await expect.poll(() => begun).toEqual([1, 2, 3, 4]);
  for (const end of ends) end();
  expect(await Promise.all(others)).toEqual([2, 3, 4]);
});
