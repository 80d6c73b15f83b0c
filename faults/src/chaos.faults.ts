import { expect, it } from 'vitest';
import { chaos } from './chaos/run.js';
import { faultRound, planOf, told } from './chaos/plan.js';

/** As long as all takes to break; `m2 test chaos --seed N --minutes M` for as long as one likes. */
const everybodys = { seed: 4, minutes: 1.5 };
const seed = Number(process.env['M2_CHAOS_SEED'] ?? everybodys.seed);
const minutes = Number(process.env['M2_CHAOS_MINUTES'] ?? everybodys.minutes);

it('a seed stands for one plan, and a longer one begins like a shorter one', () => {
  const [long, short] = [planOf(seed, 3).map(told), planOf(seed, 1).map(told)];
  expect(planOf(seed, 3).map(told)).toEqual(long);
  expect(long.slice(0, short.length)).toEqual(short);
  expect(planOf(seed + 1, 1).map(told)).not.toEqual(short);
});

it('every kind of fault comes in the first round, and a round is short enough for the run of everybody', () => {
  const faultsOf = (of: number, forMinutes: number) =>
    planOf(of, forMinutes).flatMap((action) => ('fault' in action ? [action.fault] : []));
  const all = new Set(Object.keys(faultRound));
  const length = Object.values(faultRound).reduce((sum, number) => sum + number, 0);
  expect(new Set(faultsOf(seed, 3).slice(0, length))).toEqual(all);
  expect(new Set(faultsOf(everybodys.seed, everybodys.minutes))).toEqual(all);
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
