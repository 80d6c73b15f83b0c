import * as fc from 'fast-check';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { type Outcome, step, World } from './testing/world.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const letters = ['a', 'b', 'c', 'd', 'e', 'f'];
const temporary = fc.constantFrom<Outcome>(
  'lost',
  { error: 'service.unavailable' },
  { error: 'storage.timeout' },
  { partly: 'internal' },
);
const final = fc.constantFrom<Outcome>(
  'ok',
  'ok',
  'ok',
  { error: 'node.busy' },
  { partly: 'disk.exists' },
  { error: 'bmc.unreachable' },
);
const doing = fc.tuple(fc.array(temporary, { maxLength: 2 }), final).map(([first, last]) => [...first, last]);
/** Undoing succeeds in the end, or a person makes it. */
const undoing = fc.array(temporary, { maxLength: 2 });

/** A saga of up to six steps, each after some of those before it, and what becomes of each. */
const sagas = fc.array(fc.record({ after: fc.subarray(letters), doing, undoing, wanted: fc.boolean() }), {
  minLength: 1,
  maxLength: letters.length,
});

/** At which of the things that runners wait for the runner dies, and when somebody cancels. */
const mishaps = fc.record({
  deaths: fc.array(fc.nat({ max: 40 }), { maxLength: 4 }),
  cancelAt: fc.option(fc.nat({ max: 40 })),
});

const endOf = async (world: World): Promise<void> => {
  void world.takeOver().run();
  for (let seconds = 0; world.ended.length === 0; seconds += 1) {
    if (seconds > 5_000) throw new Error(`It does not end: ${world.sent.join(', ')}`);
    await vi.advanceTimersByTimeAsync(1_000);
    if (world.killed) void world.takeOver().run();
  }
};

it('any saga, with any failures and any deaths of its runners, ends done as a whole or undone as a whole', async () => {
  await fc.assert(
    fc.asyncProperty(sagas, mishaps, async (drawn, { deaths, cancelAt }) => {
      const names = letters.slice(0, drawn.length);
      const world = World.of(
        drawn.map(({ after, wanted }, at) =>
          step(
            names[at]!,
            after.filter((name) => names.indexOf(name) >= 0 && names.indexOf(name) < at),
            { when: () => wanted || at === 0 },
          ),
        ),
      );
      drawn.forEach((one, at) => world.when(`do ${names[at]}`, ...one.doing).when(`undo ${names[at]}`, ...one.undoing));
      let awaited = 0;
      world.beforeAwait = () => {
        awaited += 1;
        if (awaited === cancelAt) world.cancelRequested = true;
        if (deaths.includes(awaited)) world.kill();
      };
      await endOf(world);

      const wanted = world.steps.filter(({ when }) => when!({})).map(({ name }) => name);
      const { state, attention } = world.ended[0]!;
      expect(world.ended).toHaveLength(1);
      expect(attention).toBeNull();
      expect(state).toBe(
        world.undoing ? (world.error!.code === 'operation.cancelled' ? 'cancelled' : 'failed') : 'succeeded',
      );
      // All of it, or nothing.
      expect([...world.present].toSorted()).toEqual(state === 'succeeded' ? wanted : []);

      const first = (what: string) => world.sent.indexOf(what);
      const last = (what: string) => world.sent.lastIndexOf(what);
      for (const { name, after } of world.steps) {
        // Nothing is done before what it stands on, nor undone before what stands on it.
        for (const before of after.filter((one) => wanted.includes(one) && first(`do ${name}`) >= 0))
          expect(first(`do ${before}`)).toBeLessThan(first(`do ${name}`));
        for (const before of after.filter((one) => first(`undo ${name}`) >= 0 && first(`undo ${one}`) >= 0))
          expect(last(`undo ${name}`)).toBeLessThan(first(`undo ${before}`));
        // The way back is one way.
        expect(first(`undo ${name}`) >= 0 && first(`undo ${name}`) < last(`do ${name}`)).toBe(false);
        expect(!wanted.includes(name) && first(`do ${name}`) >= 0).toBe(false);
      }
    }),
    { numRuns: 300 },
  );
});

/** Fails for good, for as long as anybody asks. */
const forEver = Array.from({ length: 200 }, (): Outcome => ({ error: 'bmc.auth_failed' }));
const stuckSagas = fc.record({
  steps: fc.array(fc.record({ after: fc.subarray(letters), stuck: fc.boolean() }), {
    minLength: 1,
    maxLength: letters.length,
  }),
  forwardOnly: fc.boolean(),
  deaths: fc.array(fc.nat({ max: 60 }), { maxLength: 3 }),
});

it('any saga that is stuck, with any deaths of its runners, ends when a person leaves out what is stuck, and nothing else is left', async () => {
  await fc.assert(
    fc.asyncProperty(stuckSagas, async ({ steps: drawn, forwardOnly, deaths }) => {
      const names = letters.slice(0, drawn.length);
      const before = (name: string, after: string[]) => after.filter((one) => one < name && names.includes(one));
      const skip = { leaves: 'It stays.', unsafe: null };
      const steps = drawn.map(({ after }, at) => step(names[at]!, before(names[at]!, after), { skip }));
      // On the way back: everything is done, and then the last step fails.
      const world = World.of(forwardOnly ? steps : [...steps, step('z', names)], { forwardOnly });
      const direction = forwardOnly ? 'do' : 'undo';
      drawn.forEach(({ stuck }, at) => stuck && world.when(`${direction} ${names[at]}`, ...forEver));
      world.when('do z', ...forEver);
      let awaited = 0;
      world.beforeAwait = () => {
        awaited += 1;
        if (deaths.includes(awaited)) world.kill();
      };

      const stuck = names.filter((_, at) => drawn[at]!.stuck);
      for (let asked = 0; ; asked += 1) {
        if (asked > names.length) throw new Error(`It does not end: ${world.sent.join(', ')}`);
        world.ended.length = 0;
        await endOf(world);
        if (world.ended[0]!.state !== 'needs_attention') break;
        const tried = world.rows.filter(
          ({ name, state }) => stuck.includes(name) && ['unknown', 'failed'].includes(state),
        );
        expect(tried).not.toEqual([]);
        for (const row of tried) row.skip = { by: 'olga', reason: 'it is dead' };
      }
      expect(world.ended[0]!.state).toBe(forwardOnly ? 'succeeded' : 'failed');
      expect([...world.present].toSorted()).toEqual(
        forwardOnly ? names.filter((name) => !stuck.includes(name)) : stuck,
      );
      for (const name of names) expect([name, world.state(name) === 'skipped']).toEqual([name, stuck.includes(name)]);
    }),
    { numRuns: 200 },
  );
});
