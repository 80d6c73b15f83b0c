import { expect, it } from 'vitest';
import { chaos } from './chaos/run.js';
import { planOf, told } from './chaos/plan.js';

/** A minute of it for everybody; `m2 test chaos --seed N --minutes M` for as long as one likes. */
const seed = Number(process.env['M2_CHAOS_SEED'] ?? 1);
const minutes = Number(process.env['M2_CHAOS_MINUTES'] ?? 1);

it('a seed stands for one plan, and a longer one begins like a shorter one', () => {
  const [long, short] = [planOf(seed, 3).map(told), planOf(seed, 1).map(told)];
  expect(planOf(seed, 3).map(told)).toEqual(long);
  expect(long.slice(0, short.length)).toEqual(short);
  expect(planOf(seed + 1, 1).map(told)).not.toEqual(short);
});

it(
  `whatever is asked for and whatever dies meanwhile, all is as it must be when it is quiet (seed ${seed}, ${minutes} min)`,
  async () => {
    const result = await chaos({ seed, minutes });
    process.stdout.write(`${JSON.stringify(result)}\n`);
    expect(result.faults).toBeGreaterThan(0);
    expect(result.answers['accepted']).toBeGreaterThan(0);
  },
  minutes * 60_000 + 900_000,
);
