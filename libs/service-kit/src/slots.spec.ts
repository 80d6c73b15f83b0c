import { describe, expect, it } from 'vitest';
import { Slots } from './slots.js';

describe('slots', () => {
  it('let in as many as there are, and the others in the order in which they came', async () => {
    const slots = new Slots(2);
    const inside: number[] = [];
    const come = async (who: number) => {
      await slots.take();
      inside.push(who);
    };
    const all = [0, 1, 2, 3].map(come);
    await Promise.all(all.slice(0, 2));
    expect(inside).toEqual([0, 1]);
    slots.give();
    await all[2];
    expect(inside).toEqual([0, 1, 2]);
    slots.give();
    await all[3];
    expect(inside).toEqual([0, 1, 2, 3]);
  });

  it('that nobody waits for are free again', async () => {
    const slots = new Slots(1);
    for (let round = 0; round < 3; round += 1) {
      await slots.take();
      slots.give();
    }
    await expect(slots.take()).resolves.toBeUndefined();
  });
});
