import { M2Error } from '@m2/contracts';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Execution } from './execution.js';
import { defineSaga } from './saga.js';
import { step, World } from './testing/world.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Runs it to its end, through whatever it waits for. */
const finish = async (execution: Execution) => {
  const ended = execution.run().then(() => true);
  // A day is more than any test waits; one second at a time, so that it stops where the operation does.
  for (let seconds = 0; seconds < 86_400; seconds += 1) {
    if (await Promise.race([ended, vi.advanceTimersByTimeAsync(1_000).then(() => false)])) return;
  }
  throw new Error('The operation did not end within a day');
};
const during = (ms: number) => vi.advanceTimersByTimeAsync(ms);
const last = <T>(list: T[]) => list.at(-1);
const gate = () => Promise.withResolvers<void>();

describe('an operation', () => {
  it('runs steps that do not wait for each other at the same time, and the others after them', async () => {
    const [a, b] = [gate(), gate()];
    const world = World.of([step('a'), step('b'), step('c', ['a', 'b'])])
      .when('do a', a.promise)
      .when('do b', b.promise);
    const running = world.takeOver().run();
    await during(0);
    expect(world.sent).toEqual(['do a', 'do b']);
    expect([world.state('a'), world.state('b'), world.state('c')]).toEqual(['running', 'running', 'waiting']);
    b.resolve();
    await during(0);
    expect(world.sent).toEqual(['do a', 'do b']);
    a.resolve();
    await during(0);
    expect(world.sent).toEqual(['do a', 'do b', 'do c']);
    await running;
    expect(last(world.ended)).toEqual({ state: 'succeeded', error: null, attention: null });
    expect(world.rows.map(({ state }) => state)).toEqual(['done', 'done', 'done']);
  });

  it('has the intent of a step on record before it sends it', async () => {
    const world = World.of([step('a')]);
    world.beforeAwait = () => {
      if (world.sent.length > 0) return;
      // The first wait is for the record itself.
      if (world.state('a') === 'waiting') world.brokenWrites = 1;
      world.beforeAwait = () => {};
    };
    const running = world.takeOver().run();
    await during(50);
    expect(world.sent).toEqual([]);
    await during(100);
    await running;
    expect(world.sent).toEqual(['do a']);
  });

  it('leaves out what is not wanted, and keeps nobody waiting for it', async () => {
    const world = World.of([step('a', [], { when: () => false }), step('b', ['a'])]);
    await finish(world.takeOver());
    expect([world.sent, world.state('a'), world.state('b')]).toEqual([['do b'], 'skipped', 'done']);
  });

  it('gives a step the reply of one before it', async () => {
    const seen: unknown[] = [];
    const first = step('a');
    const { call } = first.do!({} as never);
    const world = World.of([
      first,
      step('b', ['a'], {
        do: (state) => {
          seen.push(state.reply(call, 'a'));
          return { call: { ...call, subject: 'm2.cmd.hil.b.x' }, input: {} };
        },
      }),
    ]);
    await finish(world.takeOver());
    expect(seen).toEqual([{ answered: 'do a' }]);
  });
});

describe('a step that fails', () => {
  it('lets what is done be undone, in reverse, and together where it was done together', async () => {
    const world = World.of([step('a'), step('b', ['a']), step('c', ['a']), step('d', ['b', 'c'])]).when('do d', {
      partly: 'target.no_port',
    });
    await finish(world.takeOver());
    expect(world.sent.slice(0, 5)).toEqual(['do a', 'do b', 'do c', 'do d', 'undo d']);
    expect(world.sent.slice(5, 7).toSorted()).toEqual(['undo b', 'undo c']);
    expect(world.sent.slice(7)).toEqual(['undo a']);
    expect(world.present.size).toBe(0);
    expect(last(world.ended)).toMatchObject({ state: 'failed', error: { code: 'target.no_port' }, attention: null });
    expect(world.state('d')).toBe('undone');
  });

  it('waits for those under way, and then undoes them as well', async () => {
    const slow = gate();
    const world = World.of([step('a'), step('b')])
      .when('do a', { error: 'node.busy' })
      .when('do b', slow.promise);
    const running = world.takeOver().run();
    await during(100);
    expect(world.sent).toEqual(['do a', 'do b']);
    slow.resolve();
    await during(0);
    await running;
    expect(world.sent.toSorted()).toEqual(['do a', 'do b', 'undo a', 'undo b']);
    expect(world.present.size).toBe(0);
  });

  it('without having touched anything has nothing to undo', async () => {
    const world = World.of([step('a'), step('b', ['a'])]).when('do b', { error: 'bmc.unreachable' });
    await finish(world.takeOver());
    expect(world.sent).toEqual(['do a', 'do b', 'undo a']);
    expect(world.state('b')).toBe('failed');
    expect(last(world.ended)).toMatchObject({ state: 'failed', error: { code: 'bmc.unreachable' } });
  });

  it('because its handler refused it is failed where nothing can be undone, and undone where something can', async () => {
    const forGood = step('a');
    delete forGood.undo;
    const refused = World.of([forGood]).when('do a', { refused: 'disk.in_use' });
    await finish(refused.takeOver());
    expect([refused.state('a'), last(refused.ended)!.state]).toEqual(['failed', 'failed']);
    const undone = World.of([step('a')]).when('do a', { refused: 'disk.in_use' });
    await finish(undone.takeOver());
    expect([undone.sent, undone.state('a')]).toEqual([['do a', 'undo a'], 'undone']);
  });

  it('because its handler refused it may have been done before, when it was sent more than once', async () => {
    for (const outcomes of [['lost', { refused: 'disk.in_use' }], [{ refused: 'disk.in_use', again: true }]] as const) {
      const forGood = step('a');
      delete forGood.undo;
      const world = World.of([forGood]).when('do a', ...outcomes);
      await finish(world.takeOver());
      expect([world.state('a'), last(world.ended)!.state]).toEqual(['unknown', 'failed']);
    }
  });

  it('without having touched anything, but not in its first attempt, may have been done in an earlier one', async () => {
    const world = World.of([step('a')]).when('do a', 'lost', { error: 'bmc.unreachable' });
    await finish(world.takeOver());
    expect(world.sent).toEqual(['do a', 'do a', 'undo a']);
    expect(world.present.size).toBe(0);
  });

  it('is the one whose error the operation shows, and the first of several', async () => {
    const slow = gate();
    const world = World.of([step('a'), step('b')])
      .when('do a', { error: 'disk.exists' })
      .when('do b', slow.promise, { error: 'node.busy' });
    const running = world.takeOver().run();
    await during(0);
    slow.resolve();
    await during(0);
    await running;
    expect(last(world.ended)!.error).toMatchObject({ code: 'disk.exists' });
  });
});

describe('a step that can be tried again', () => {
  it('is, until it succeeds', async () => {
    const world = World.of([step('a')]).when('do a', 'lost', { error: 'storage.unavailable' }, { error: 'internal' });
    await finish(world.takeOver());
    expect(world.sent).toEqual(['do a', 'do a', 'do a', 'do a']);
    expect(last(world.ended)!.state).toBe('succeeded');
    expect(world.rows[0]!.attempts).toBe(4);
  });

  it('is, until its deadline', async () => {
    const world = World.of([step('a', [], { deadlineMs: 20_000 })]);
    world.when('do a', ...Array.from({ length: 100 }, () => ({ error: 'storage.timeout' as const })));
    const before = performance.now();
    await finish(world.takeOver());
    expect(last(world.ended)).toMatchObject({ state: 'failed', error: { code: 'storage.timeout' } });
    expect(performance.now() - before).toBeGreaterThan(15_000);
    expect(performance.now() - before).toBeLessThan(25_000);
    expect(last(world.sent)).toBe('undo a');
  });

  it('is waited for as long as its service is not there at all: an hour is no failure', async () => {
    const world = World.of([step('a', [], { deadlineMs: 20_000 })]);
    const away = Array.from({ length: 720 }, () => ({ error: 'service.unavailable' as const }));
    world.when('do a', ...away, { error: 'storage.timeout' });
    const before = performance.now();
    await finish(world.takeOver());
    expect(performance.now() - before).toBeGreaterThan(3_500_000);
    expect(last(world.ended)!.state).toBe('succeeded');
  });
});

describe('a cancelled operation', () => {
  it('ends the pause of a step that waits to be tried again, and undoes', async () => {
    const world = World.of([step('a'), step('b', ['a'])]);
    world.when('do b', ...Array.from({ length: 9 }, () => ({ error: 'service.unavailable' as const })));
    const execution = world.takeOver();
    const running = execution.run();
    await during(2_000);
    execution.cancel();
    await during(0);
    await running;
    expect(world.sent.slice(-2)).toEqual(['undo b', 'undo a']);
    expect(last(world.ended)).toMatchObject({ state: 'cancelled', error: { code: 'operation.cancelled' } });
  });

  it('lets a command under way be answered before it is undone', async () => {
    const slow = gate();
    const world = World.of([step('a'), step('b', ['a'])]).when('do a', slow.promise);
    const execution = world.takeOver();
    const running = execution.run();
    await during(0);
    execution.cancel();
    await during(1_000);
    expect(world.sent).toEqual(['do a']);
    slow.resolve();
    await during(0);
    await running;
    expect(world.sent).toEqual(['do a', 'undo a']);
    expect(last(world.ended)!.state).toBe('cancelled');
  });

  it('that failed before it saw the cancel ends cancelled, and says what had failed', async () => {
    const slow = gate();
    const world = World.of([step('a'), step('b', ['a'])]).when('do b', slow.promise, { error: 'node.busy' });
    const execution = world.takeOver();
    const running = execution.run();
    await during(0);
    execution.cancel();
    slow.reject(new M2Error('node.busy', 'somebody has it'));
    await during(0);
    await running;
    expect(last(world.ended)).toMatchObject({ state: 'cancelled', error: { code: 'operation.cancelled' } });
    expect(last(world.ended)!.error!.detail).toContain('somebody has it');
    expect(world.present.size).toBe(0);
  });

  it('that failed here while another replica was asked to cancel it ends cancelled too', async () => {
    const world = World.of([step('a'), step('b', ['a'])]).when('do b', { error: 'node.busy' });
    world.beforeAwait = () => {
      // On record, and not told to the runner yet.
      if (world.sent.includes('do b')) world.cancelRequested = true;
    };
    await finish(world.takeOver());
    expect(last(world.ended)).toMatchObject({ state: 'cancelled', error: { code: 'operation.cancelled' } });
    expect(world.present.size).toBe(0);
  });

  it('whose runner died is cancelled by the next one', async () => {
    const world = World.of([step('a'), step('b', ['a'])]).when('do b', new Promise(() => {}));
    void world.takeOver().run();
    await during(0);
    world.cancelRequested = true;
    world.kill();
    await finish(world.takeOver());
    expect(world.sent).toEqual(['do a', 'do b', 'undo b', 'undo a']);
    expect(last(world.ended)!.state).toBe('cancelled');
  });
});

describe('the times of a step', () => {
  it('are those of its undo apart from those of what was done', async () => {
    const world = World.of([step('a'), step('b', ['a'])]).when(
      'do b',
      new Promise<void>((_, reject) => setTimeout(() => reject(new M2Error('node.busy', 'x')), 10_000)),
    );
    world.when('undo a', new Promise((resolve) => setTimeout(resolve, 20_000)));
    await finish(world.takeOver());
    const [a, b] = world.rows;
    const seconds = (from: string | null, to: string | null) => (Date.parse(to!) - Date.parse(from!)) / 1_000;
    expect(seconds(a!.startedAt, a!.endedAt)).toBe(0);
    expect(seconds(a!.endedAt, a!.undoStartedAt)).toBe(10);
    expect(seconds(a!.undoStartedAt, a!.undoEndedAt)).toBe(10);
    expect(b).toMatchObject({ undoStartedAt: expect.any(String) as string, undoEndedAt: expect.any(String) as string });
  });
});

describe('the wall clock', () => {
  it('ends no wait and no deadline when somebody sets it', async () => {
    const world = World.of([step('a', [], { deadlineMs: 60_000 })]);
    world.when('do a', ...Array.from({ length: 5 }, () => ({ error: 'storage.timeout' as const })));
    const running = world.takeOver().run();
    await during(500);
    // oxlint-disable-next-line no-restricted-properties -- it is set
    vi.setSystemTime(Date.now() + 7_200_000);
    await during(1_000);
    // oxlint-disable-next-line no-restricted-properties -- it is set
    vi.setSystemTime(Date.now() - 14_400_000);
    await during(30_000);
    await running;
    expect(last(world.ended)!.state).toBe('succeeded');
    expect(world.sent).toHaveLength(6);
  });
});

describe('a bug in a handler', () => {
  it('ends the operation after a few tries, and does not go on for the day that the step may last', async () => {
    const world = World.of([step('a', [], { deadlineMs: 86_400_000 })]);
    world.when('do a', ...Array.from({ length: 99 }, () => ({ error: 'internal' as const })));
    const before = performance.now();
    await finish(world.takeOver());
    expect(last(world.ended)).toMatchObject({ state: 'failed', error: { code: 'internal' } });
    expect(world.sent.filter((what) => what === 'do a')).toHaveLength(5);
    expect(performance.now() - before).toBeLessThan(120_000);
  });
});

describe('a step that a person leaves out', () => {
  const instead = () => ({ call: step('node').do!({} as never).call, input: {} });
  const skip = { by: 'olga', reason: 'the BMC is dead' };
  const rule = { leaves: 'It may be on.', unsafe: null, instead };
  const stuckAt = (world: World, name: string) =>
    Object.assign(
      world.rows.find((row) => row.name === name)!,
      { skip },
    );

  it('has what stands in for it done, and lets the others go on', async () => {
    const world = World.of([step('off', [], { skip: rule }), step('release', ['off'])], { forwardOnly: true });
    world.when('do off', ...Array.from({ length: 99 }, () => ({ error: 'bmc.unreachable' as const })));
    await finish(world.takeOver());
    expect(last(world.ended)!.state).toBe('needs_attention');
    const before = world.sent.length;
    stuckAt(world, 'off');
    await finish(world.takeOver());
    expect(world.sent.slice(before)).toEqual(['skip off', 'do release']);
    expect(last(world.ended)).toMatchObject({ state: 'succeeded', attention: null });
    expect(world.state('off')).toBe('skipped');
  });

  it('on the way back is not undone, and what it stood on is', async () => {
    const world = World.of([step('a'), step('on', ['a'], { skip: rule }), step('c', ['on'])]);
    world.when('do c', { error: 'node.busy' });
    world.when('undo on', ...Array.from({ length: 99 }, () => ({ error: 'bmc.unreachable' as const })));
    await finish(world.takeOver());
    expect(last(world.ended)!.state).toBe('needs_attention');
    stuckAt(world, 'on');
    await finish(world.takeOver());
    expect(world.sent.slice(-2)).toEqual(['skip on', 'undo a']);
    expect(last(world.ended)).toMatchObject({ state: 'failed', error: { code: 'node.busy' } });
    expect([...world.present]).toEqual(['on']);
  });

  it('stays stuck when what stands in for it cannot be done', async () => {
    const world = World.of([step('off', [], { skip: rule })], { forwardOnly: true });
    stuckAt(world, 'off');
    world.when('skip off', ...Array.from({ length: 99 }, () => ({ error: 'node.not_found' as const })));
    await finish(world.takeOver());
    expect(last(world.ended)!.state).toBe('needs_attention');
  });
});

describe('steps that depend on the input', () => {
  it('are as many as the input says, for every runner', async () => {
    const nics = (input: unknown) => (input as { nics: string[] }).nics;
    const world = new World(
      {
        kind: 'provision',
        version: 1,
        forwardOnly: false,
        steps: (input) => [...nics(input).map((nic) => step(nic)), step('on', nics(input))],
      },
      { nics: ['eth0', 'eth1', 'eth2'] },
    );
    world.when('do eth1', new Promise(() => {}));
    void world.takeOver().run();
    await during(0);
    world.kill();
    world.when('do eth1', 'ok');
    await finish(world.takeOver());
    expect(last(world.ended)!.state).toBe('succeeded');
    expect([...world.present].toSorted()).toEqual(['eth0', 'eth1', 'eth2', 'on']);
    expect(last(world.sent)).toBe('do on');
  });

  it('are checked when an operation is accepted', () => {
    const saga = { kind: 'provision' as const, version: 1, forwardOnly: false, steps: () => [step('a', ['b'])] };
    expect(() => new World(defineSaga(saga))).toThrow('waits for b');
  });
});

describe('a wait', () => {
  const look = (reply: { done?: boolean; failed?: boolean }) => {
    if (reply.done) return { done: reply };
    if (reply.failed) return { failed: { code: 'image.truncated' as const, detail: 'half of it' } };
    return { progress: { done: 1, total: 2, text: 'halfway' } };
  };
  const waiting = (replies: (() => unknown)[], more = {}) => {
    const { call } = step('w').do!({} as never);
    const world = World.of([
      step('a'),
      step('w', ['a'], {
        do: undefined as never,
        undo: undefined as never,
        wait: {
          query: () => ({ call, input: {} }),
          look: (reply) => look((replies.shift() ?? (() => reply))() as never),
          everyMs: 2_000,
          timeout: { code: 'boot.timeout', detail: 'nobody phoned' },
        },
        deadlineMs: 60_000,
        ...more,
      }),
    ]);
    return world;
  };
  const notYet = () => ({});
  const looks = (world: World) => world.sent.filter((what) => what === 'look w').length;

  it('looks until what it waits for is there, and keeps what it saw', async () => {
    const world = waiting([notYet, notYet, () => ({ done: true, report: 7 })]);
    await finish(world.takeOver());
    expect(looks(world)).toBe(3);
    expect(last(world.ended)!.state).toBe('succeeded');
    expect(world.rows[1]!.reply).toEqual({ done: true, report: 7 });
  });

  it('looks at once when something happened, even while it was looking', async () => {
    const world = waiting([notYet, () => ({ done: true })]);
    const execution = world.takeOver();
    const running = execution.run();
    await during(10);
    expect(looks(world)).toBe(1);
    execution.wake();
    await during(0);
    await running;
    expect(looks(world)).toBe(2);

    const other = waiting([notYet, () => ({ done: true })]);
    const woken = other.takeOver();
    const lookings = woken.run();
    other.beforeAwait = () => {
      if (looks(other) === 0 && other.state('a') === 'done') woken.wake();
    };
    await during(10);
    await lookings;
    expect(looks(other)).toBe(2);
  });

  it('ends with what it saw fail', async () => {
    const world = waiting([notYet, () => ({ failed: true })]);
    await finish(world.takeOver());
    expect(last(world.ended)).toMatchObject({
      state: 'failed',
      error: { code: 'image.truncated', detail: 'half of it' },
    });
    expect(world.sent.at(-1)).toBe('undo a');
  });

  it('ends after its deadline, in which the time without the service does not count', async () => {
    const never = Array.from({ length: 10_000 }, () => notYet);
    const patient = waiting([...never]);
    const before = performance.now();
    await finish(patient.takeOver());
    expect(last(patient.ended)).toMatchObject({ state: 'failed', error: { code: 'boot.timeout' } });
    expect(performance.now() - before).toBeLessThan(70_000);

    const away = waiting([...Array.from({ length: 60 }, () => unavailable), () => ({ done: true })]);
    await finish(away.takeOver());
    expect(last(away.ended)!.state).toBe('succeeded');
  });
  const unavailable = () => {
    throw new M2Error('service.unavailable', 'not there');
  };

  it('passes over a look that fails for now, and not over one that fails for good', async () => {
    const flaky = waiting([
      () => {
        throw new M2Error('request.deadline', 'late');
      },
      () => ({ done: true }),
    ]);
    await finish(flaky.takeOver());
    expect(last(flaky.ended)!.state).toBe('succeeded');
    const gone = waiting([
      () => {
        throw new M2Error('image.not_found', 'deleted meanwhile');
      },
    ]);
    await finish(gone.takeOver());
    expect(last(gone.ended)).toMatchObject({ state: 'failed', error: { code: 'image.not_found' } });
  });

  it('that fails after its command was done leaves something to undo, whatever the failure says of itself', async () => {
    const { do: act, undo } = step('w');
    const failing: (() => never)[] = [
      () => {
        throw new M2Error('bmc.auth_failed', 'the look did not reach it');
      },
      () => {
        throw new M2Error('request.invalid', 'the look was not understood');
      },
    ];
    for (const fails of failing) {
      const world = waiting([fails], { do: act, undo });
      await finish(world.takeOver());
      expect(world.sent).toEqual(['do a', 'do w', 'look w', 'undo w', 'undo a']);
      expect(world.present.size).toBe(0);
      expect(last(world.ended)).toMatchObject({ state: 'failed' });
    }
  });

  it('is told apart from work, which takes room', async () => {
    const slow = gate();
    const world = waiting([notYet, () => ({ done: true })]).when('do a', slow.promise);
    const execution = world.takeOver();
    const running = execution.run();
    await during(100);
    expect(execution.onlyWaits).toBe(false);
    slow.resolve();
    await during(100);
    expect(execution.onlyWaits).toBe(true);
    await during(10_000);
    await running;
    expect(execution.onlyWaits).toBe(false);
  });

  it('is ended by a cancel at once', async () => {
    const world = waiting(Array.from({ length: 99 }, () => notYet));
    const execution = world.takeOver();
    const running = execution.run();
    await during(500);
    execution.cancel();
    await during(0);
    await running;
    expect(last(world.ended)!.state).toBe('cancelled');
    expect(looks(world)).toBe(1);
    expect(world.present.size).toBe(0);
  });
});

describe('a runner that has lost the operation', () => {
  it('stops, and tells nobody that it ended', async () => {
    const slow = gate();
    const world = World.of([step('a'), step('b', ['a'])]).when('do a', slow.promise);
    const old = world.takeOver().run();
    await during(0);
    const next = world.takeOver().run();
    slow.resolve();
    await during(0);
    await Promise.all([old, next]);
    expect(world.ended).toHaveLength(1);
    expect(last(world.ended)!.state).toBe('succeeded');
  });

  it('sends nothing more for its other steps', async () => {
    const world = World.of([step('a'), step('b')]);
    world.when('do a', new Promise((resolve) => setTimeout(resolve, 1_000)));
    world.when('do b', ...Array.from({ length: 99 }, () => ({ error: 'service.unavailable' as const })));
    const old = world.takeOver().run();
    await during(500);
    world.fence += 1; // somebody else has it
    await during(1_000);
    await old;
    const before = world.sent.length;
    await during(60_000);
    expect(world.sent).toHaveLength(before);
    expect(world.ended).toEqual([]);
  });

  it('because it is to stop leaves everything as it is for the next one', async () => {
    const world = World.of([step('a'), step('b', ['a'])]);
    world.when('do b', ...Array.from({ length: 3 }, () => ({ error: 'service.unavailable' as const })));
    const execution = world.takeOver();
    const running = execution.run();
    await during(150);
    execution.stop();
    await during(0);
    await running;
    expect([world.state('a'), world.state('b'), world.ended.length]).toEqual(['done', 'running', 0]);
    await finish(world.takeOver());
    expect(world.sent.filter((what) => what === 'do a')).toHaveLength(1);
    expect(last(world.ended)!.state).toBe('succeeded');
  });
});

describe('a runner that dies', () => {
  it('between the act and the record leaves a step that is done again, and then undone if it fails', async () => {
    // The node was powered on, the runner died, the BMC is gone for the next runner: the power-on may have happened.
    const world = World.of([step('power-on')]).when('do power-on', 'lost', { error: 'bmc.unreachable' });
    world.beforeAwait = () => {
      if (world.present.has('power-on')) world.kill();
    };
    const first = world.takeOver();
    void first.run();
    await during(1_000);
    expect(world.state('power-on')).toBe('running');
    world.beforeAwait = () => {};
    await finish(world.takeOver());
    expect(world.sent).toEqual(['do power-on', 'do power-on', 'undo power-on']);
    expect(world.present.size).toBe(0);
  });

  it('after a failure was on record, and before the way back began, does not turn it into a success', async () => {
    for (const error of ['bmc.unreachable', 'node.busy'] as const) {
      const world = World.of([step('a'), step('b', ['a']), step('c', ['b'])]).when('do b', { error });
      world.beforeAwait = () => {
        if (['failed', 'unknown'].includes(world.state('b'))) world.kill();
      };
      void world.takeOver().run();
      await during(1_000);
      world.beforeAwait = () => {};
      await finish(world.takeOver());
      expect(last(world.ended)).toMatchObject({ state: 'failed', error: { code: error } });
      expect(world.sent).not.toContain('do c');
      expect(world.present.size).toBe(0);
    }
  });

  it('on the way back is followed by one that goes on with it', async () => {
    const world = World.of([step('a'), step('b', ['a']), step('c', ['b'])]).when('do c', { error: 'node.busy' });
    world.when('undo b', new Promise(() => {}));
    void world.takeOver().run();
    await during(0);
    expect(last(world.sent)).toBe('undo b');
    world.kill();
    await finish(world.takeOver());
    expect(world.sent.filter((what) => what.startsWith('do '))).toEqual(['do a', 'do b', 'do c']);
    expect(last(world.ended)).toMatchObject({ state: 'failed', error: { code: 'node.busy' } });
    expect(world.present.size).toBe(0);
  });
});

describe('an operation that needs attention', () => {
  it('is one whose undo keeps failing; it names what is left and what to do, and goes on when it is told to', async () => {
    const world = World.of([step('a'), step('b', ['a']), step('c', ['b'])]).when('do c', { error: 'disk.exists' });
    world.when('undo b', ...Array.from({ length: 20 }, () => ({ error: 'bmc.auth_failed' as const })));
    await finish(world.takeOver());
    const { state, error, attention } = last(world.ended)!;
    expect(state).toBe('needs_attention');
    expect(error).toMatchObject({ code: 'disk.exists' });
    expect(attention).toMatch(/^a, b could not be undone: .*m2 operation resume op$/);
    expect([world.state('a'), world.state('b'), world.state('c')]).toEqual(['done', 'unknown', 'undone']);
    expect(world.sent).not.toContain('undo a');

    world.when('undo b', 'ok');
    await finish(world.takeOver());
    expect(last(world.ended)).toMatchObject({ state: 'failed', error: { code: 'disk.exists' }, attention: null });
    expect(world.present.size).toBe(0);
  });

  it('tries an undo for a while even against an error that looks final', async () => {
    const world = World.of([step('a'), step('b', ['a'])]).when('do b', { error: 'disk.exists' });
    world.when('undo a', { error: 'storage.in_use' }, { error: 'storage.in_use' });
    await finish(world.takeOver());
    expect(last(world.ended)!.state).toBe('failed');
    expect(world.present.size).toBe(0);
  });

  it('is one that only goes forward and is stuck; it is done again from where it stopped, not undone', async () => {
    for (const code of ['bmc.unreachable', 'bmc.timeout'] as const) {
      const world = World.of([step('off'), step('release', ['off'])], { forwardOnly: true });
      world.when('do off', ...Array.from({ length: 20 }, () => ({ error: code })));
      await finish(world.takeOver());
      expect(last(world.ended)).toMatchObject({ state: 'needs_attention', error: { code } });
      expect(last(world.ended)!.attention).toMatch(/^off could not be finished/);
      expect(world.sent).not.toContain('undo off');
      expect(world.sent).not.toContain('do release');

      world.when('do off', 'ok');
      await finish(world.takeOver());
      expect(last(world.ended)!.state).toBe('succeeded');
      expect(world.sent.slice(-2)).toEqual(['do off', 'do release']);
    }
  });

  it('may have been stuck in its very first attempt', async () => {
    const world = World.of([step('off', [], { deadlineMs: 40_000 }), step('release', ['off'])], { forwardOnly: true });
    const late = new Promise<void>((_, reject) =>
      setTimeout(() => reject(new M2Error('bmc.unreachable', 'slow')), 40_000),
    );
    late.catch(() => {});
    world.when('do off', late);
    await finish(world.takeOver());
    expect(last(world.ended)!.state).toBe('needs_attention');
    await finish(world.takeOver());
    expect(last(world.ended)!.state).toBe('succeeded');
    expect(world.present).toEqual(new Set(['off', 'release']));
  });
});

describe('a database that is away', () => {
  it('is waited for, and nothing is sent that is not on record', async () => {
    const world = World.of([step('a'), step('b', ['a'])]);
    world.brokenWrites = 5;
    const running = world.takeOver().run();
    await during(1_000);
    expect(world.sent).toEqual([]);
    await during(10_000);
    await running;
    expect(world.sent).toEqual(['do a', 'do b']);
    expect(last(world.ended)!.state).toBe('succeeded');
  });
});

describe('a saga', () => {
  const saga = (steps: Parameters<typeof World.of>[0]) => () =>
    defineSaga({ kind: 'provision', version: 1, forwardOnly: false, steps });

  it('is refused at start-up when its steps make no order', () => {
    expect(saga([step('a'), step('a')])).toThrow('two steps named a');
    expect(saga([step('a', ['b']), step('b')])).toThrow('waits for b, which does not come before it');
    expect(saga([step('a', ['a'])])).toThrow('waits for a');
    expect(saga([step('a', [], { do: undefined as never })])).toThrow('does nothing');
    expect(saga([step('a'), step('b', ['a'])])).not.toThrow();
  });
});
