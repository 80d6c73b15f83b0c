import { diskDetach, diskDetached, M2Error } from '@m2/contracts';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { Database } from './database.js';
import { type Effect, Effects } from './effects.js';
import { Leases } from './leases.js';
import { leaseSeconds } from './lease-lost.js';
import { Life } from './life.js';
import { makeLog } from './log.js';
import { type OwnPostgres, startPostgres, until } from './testing/index.js';

let postgres: OwnPostgres;
let database: Database;
let here: TestProcess;
const others: TestProcess[] = [];
let woken = 0;
const id = '0198f7a0-0000-7000-8000-000000000001';
const detached = { id, project: id, name: 'web-1', holder: id };
const meta = { entity: id, project: id };
const log = makeLog('test', 'silent');

/** A process, as far as effects go: it lives as long as a test lets it. */
interface TestProcess {
  life: Life;
  effects: Effects;
  /** As a process that was killed or stands still for longer than its lease: the others do not hear of it. */
  silence(): Promise<void>;
}

async function startProcess(instance: string, of = database): Promise<TestProcess> {
  const life = await Life.begin(of, instance, log);
  const leases = new Leases(of, life, log, () => {});
  const silence = () =>
    database.query(`UPDATE m2_processes SET seen_at = now() - interval '16 seconds' WHERE id = $1`, [life.current.id]);
  return {
    life,
    effects: new Effects(of, leases, 10, () => void (woken += 1)),
    silence: async () => void (await silence()),
  };
}

const anotherProcess = async (instance = `other-${others.length}`) => {
  const other = await startProcess(instance);
  others.push(other);
  return other;
};

beforeAll(async () => {
  postgres = await startPostgres();
  database = await Database.open({
    url: await postgres.database(),
    poolSize: 20,
    applicationName: 'test',
    migrations: [],
    entities: [],
  });
  await database.query('CREATE TABLE things (name text PRIMARY KEY)');
});
afterAll(async () => {
  await database?.close();
  await postgres?.stop();
});
beforeEach(async () => {
  woken = 0;
  await database.query('TRUNCATE things, m2_effects, m2_fences, m2_outbox, m2_processes, m2_leases');
  here = await startProcess('here');
});
afterEach(async () => {
  await Promise.all([here, ...others.splice(0)].map(({ life }) => life.end()));
});

const run = <T>(
  key: string,
  handler: (effect: Effect) => Promise<T>,
  { fence = 1, forMs = 10_000, by = here }: { fence?: number; forMs?: number; by?: TestProcess } = {},
) => by.effects.run({ call: diskDetach, key, fence, deadline: performance.now() + forMs }, handler);

/** Makes a thing, and says how often it was asked to. */
const maker = (name: string) => {
  const handler = async (effect: Effect) => {
    handler.calls += 1;
    return effect.commit(async (sql, emit) => {
      await sql.query('INSERT INTO things VALUES ($1)', [name]);
      emit(diskDetached, detached, meta);
      return { made: name, call: handler.calls };
    });
  };
  handler.calls = 0;
  return handler;
};
const things = async () =>
  (await database.query<{ name: string }>('SELECT name FROM things ORDER BY name')).map((row) => row.name);
const count = async (table: string) =>
  Number((await database.query<{ n: string }>(`SELECT count(*) AS n FROM ${table}`))[0]!.n);
/** Steps at which somebody is at work. */
const held = async () =>
  (await database.query<{ name: string }>('SELECT name FROM m2_leases ORDER BY name')).map(({ name }) => name);
const underWay = (step: string) => until('it is under way', async () => (await held()).includes(step));
/** A handler that waits, and then makes a thing. */
const slow = (make: (effect: Effect) => Promise<unknown>) => {
  const gate = Promise.withResolvers<void>();
  const handler = async (effect: Effect) => {
    await gate.promise;
    return make(effect);
  };
  return { handler, goOn: () => gate.resolve() };
};
/** Asks the database as somebody who waits for a lease does. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('an effect', () => {
  it('is done once however often it is asked for, and always answers the same', async () => {
    const make = maker('a');
    const first = await run('op/step/do', make);
    const second = await run('op/step/do', make);
    expect(first).toEqual({ made: 'a', call: 1 });
    expect(second).toEqual(first);
    expect(make.calls).toBe(1);
    expect([await things(), await count('m2_outbox'), woken]).toEqual([['a'], 1, 1]);
    expect(await held()).toEqual([]);
  });

  it('is done once by those who ask at the same time: the others wait for the first one’s answer', async () => {
    const make = maker('a');
    const { handler, goOn } = slow(make);
    const first = run('op/step/do', handler);
    await underWay('op/step');
    const others = [run('op/step/do', make), run('op/step/do', make)];
    await settled();
    expect(make.calls).toBe(0);
    goOn();
    expect(await Promise.all([first, ...others])).toEqual(Array.from({ length: 3 }, () => ({ made: 'a', call: 1 })));
    expect(make.calls).toBe(1);
  });

  it('shares its step with its undo, so the two never run at the same time', async () => {
    const order: string[] = [];
    const { handler, goOn } = slow(async (effect) => {
      order.push('do ends');
      return effect.commit(async () => ({}));
    });
    const done = run('op/step/do', handler);
    await underWay('op/step');
    const undo = (effect: Effect) => {
      order.push('undo');
      return effect.commit(async () => ({}));
    };
    const undone = run('op/step/undo', undo, { fence: 2, by: await anotherProcess() });
    await settled();
    goOn();
    await Promise.all([done, undone]);
    expect(order).toEqual(['do ends', 'undo']);
  });

  it('does not wait for another step of the same operation', async () => {
    const gate = Promise.withResolvers<void>();
    const slow = run('op/one/do', async (effect) => {
      await gate.promise;
      return effect.commit(async () => ({}));
    });
    await expect(run('op/two/do', maker('b'))).resolves.toMatchObject({ made: 'b' });
    gate.resolve();
    await slow;
  });

  it('that fails before its handler has recorded anything is refused; later it may have been done', async () => {
    const no = (_after?: unknown): never => {
      throw new M2Error('disk.in_use', 'no');
    };
    const refusals: ((effect: Effect) => Promise<unknown>)[] = [
      async () => no(),
      (effect) => effect.transaction(async (sql) => no(await sql.query('SELECT 1'))),
      (effect) => effect.commit(async (sql) => no(await sql.query('SELECT 1'))),
      // As where a driver's own error is told in our words.
      (effect) => effect.commit((sql) => sql.query('SELECT nonsense')).catch(no),
    ];
    const later: ((effect: Effect) => Promise<unknown>)[] = [
      async (effect) => no(await effect.query('SELECT 1')),
      async (effect) => no(await effect.transaction(async () => {})),
      async (effect) => {
        await effect.transaction(async () => {});
        return effect.commit(no);
      },
      async () => {
        throw new M2Error('storage.timeout', 'it is no refusal, for it may pass');
      },
    ];
    for (const [at, handler] of [...refusals, ...later].entries())
      await expect(run(`op/step-${at}/do`, handler)).rejects.toMatchObject({ refused: at < refusals.length });
  });

  it('of a runner that was replaced is refused, even where the answer is on record', async () => {
    const make = maker('a');
    await run('op/one/do', make, { fence: 3 });
    await expect(run('op/two/do', make, { fence: 2 })).rejects.toMatchObject({ code: 'fence.stale' });
    await expect(run('op/one/do', make, { fence: 2 })).rejects.toMatchObject({ code: 'fence.stale' });
    expect(make.calls).toBe(1);
    await expect(run('op/one/do', make, { fence: 3 })).resolves.toMatchObject({ call: 1 });
    await expect(run('other/one/do', maker('b'), { fence: 1 })).resolves.toMatchObject({ made: 'b' });
    expect(await held()).toEqual([]);
  });

  it('of a runner that was replaced is refused, though it saw its fence before that of the other', async () => {
    const other = await anotherProcess();
    // Here, and nowhere else, who takes a step waits: as a session does that gets no processor for a moment.
    await database.query(`
      ALTER FUNCTION m2_lease_take RENAME TO m2_lease_take_now;
      CREATE FUNCTION m2_lease_take(p_name text, p_process uuid) RETURNS text LANGUAGE plpgsql AS $$
      BEGIN
        IF p_process = '${here.life.current.id}' THEN PERFORM pg_advisory_xact_lock(17); END IF;
        RETURN m2_lease_take_now(p_name, p_process);
      END $$`);
    const session = await database.session();
    try {
      await run('op/before/do', maker('before'), { by: other });
      await session.query('SELECT pg_advisory_lock(17)');
      const late = run('op/step/do', maker('late'));
      late.catch(() => {});
      await until('it waits', async () => {
        const rows = await database.query(`SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`);
        return rows.length > 0;
      });
      const undo = (effect: Effect) => effect.commit(async () => ({}));
      await run('op/step/undo', undo, { fence: 2, by: other });
      await session.query('SELECT pg_advisory_unlock(17)');
      await expect(late).rejects.toMatchObject({ code: 'fence.stale' });
    } finally {
      session.release(true);
      await database.query('DROP FUNCTION m2_lease_take; ALTER FUNCTION m2_lease_take_now RENAME TO m2_lease_take');
    }
    expect(await things()).toEqual(['before']);
    expect(await held()).toEqual([]);
  });

  it('that was refused has its fence on record all the same', async () => {
    const refused = (effect: Effect) =>
      effect.commit(async (sql) => {
        await sql.query('SELECT 1');
        throw new M2Error('disk.in_use', 'no');
      });
    await expect(run('op/one/do', refused, { fence: 2 })).rejects.toMatchObject({ code: 'disk.in_use' });
    await expect(run('op/two/do', maker('a'), { fence: 1 })).rejects.toMatchObject({ code: 'fence.stale' });
    expect([await things(), await held()]).toEqual([[], []]);
  });

  it('answers from the record also where its handler would refuse before it asks anything', async () => {
    const first = await run('op/step/do', maker('a'));
    const refused = () => Promise.reject(new M2Error('disk.not_found', 'It is not there any more'));
    expect(await run('op/step/do', refused)).toEqual(first);
    await expect(run('op/other/do', refused)).rejects.toMatchObject({ code: 'disk.not_found', refused: true });
    expect(await held()).toEqual([]);
  });

  it('that belongs to no operation has a fence of its own', async () => {
    await run('direct/1', maker('a'), { fence: 5 });
    await expect(run('direct/2', maker('b'), { fence: 0 })).resolves.toMatchObject({ made: 'b' });
  });

  it('that fails leaves nothing of its commit, and can be tried again', async () => {
    const failing = (effect: Effect) =>
      effect.commit(async (sql, emit) => {
        await sql.query(`INSERT INTO things VALUES ('a')`);
        emit(diskDetached, detached, meta);
        throw new Error('at the last moment');
      });
    await expect(run('op/step/do', failing)).rejects.toThrow('at the last moment');
    expect([await things(), await count('m2_outbox'), await count('m2_effects'), woken]).toEqual([[], 0, 0, 0]);
    expect(await held()).toEqual([]);
    await expect(run('op/step/do', maker('a'))).resolves.toMatchObject({ made: 'a' });
  });

  it('keeps on record what it was about to make, when it fails between the record and the end', async () => {
    const failing = async (effect: Effect) => {
      await effect.transaction((sql) => sql.query(`INSERT INTO things VALUES ('intended')`));
      throw new Error('the hardware said no');
    };
    await expect(run('op/step/do', failing)).rejects.toThrow('the hardware said no');
    expect([await things(), await count('m2_effects')]).toEqual([['intended'], 0]);
  });

  it('whose event does not fit the catalogue is not committed', async () => {
    const failing = (effect: Effect) =>
      effect.commit(async (sql, emit) => {
        await sql.query(`INSERT INTO things VALUES ('a')`);
        emit(diskDetached, { ...detached, id: 'not a uuid' }, meta);
        return {};
      });
    await expect(run('op/step/do', failing)).rejects.toThrow(/uuid/i);
    expect(await things()).toEqual([]);
  });

  it('must be committed, and only once', async () => {
    await expect(run('op/one/do', async () => ({}))).rejects.toThrow(/without committing/);
    const twice = async (effect: Effect) => {
      await effect.commit(async () => ({}));
      return effect.commit(async () => ({}));
    };
    await expect(run('op/two/do', twice)).rejects.toThrow(/commits twice/);
  });

  it('waits for its like no longer than somebody waits for the answer', async () => {
    const { handler, goOn } = slow(maker('a'));
    const first = run('op/step/do', handler);
    await underWay('op/step');
    const impatient = { forMs: 50 };
    await expect(run('op/step/do', maker('a'), impatient)).rejects.toMatchObject({ code: 'request.deadline' });
    const elsewhere = { ...impatient, by: await anotherProcess() };
    await expect(run('op/step/do', maker('a'), elsewhere)).rejects.toMatchObject({ code: 'request.deadline' });
    goOn();
    await first;
    expect(await held()).toEqual([]);
  });

  it('holds no connection while its handler works, however many there are', async () => {
    const gate = Promise.withResolvers<void>();
    const many = Array.from({ length: 50 }, (_, at) =>
      run(`op/step-${at}/do`, async (effect) => {
        await effect.transaction((sql) => sql.query('SELECT 1'));
        await gate.promise;
        return effect.commit(async () => ({}));
      }),
    );
    await until('all are under way', async () => (await held()).length === 50);
    await until('no connection is in a transaction', async () => (await busyConnections()) === 0);
    gate.resolve();
    await Promise.all(many);
    expect(await count('m2_effects')).toBe(50);
  });

  it('asks within its own transaction while that is under way', async () => {
    const seen = await run('op/step/do', (effect) =>
      effect.commit(async (sql) => {
        await sql.query(`INSERT INTO things VALUES ('a')`);
        return (await effect.query<{ name: string }>('SELECT name FROM things')).map(({ name }) => name);
      }),
    );
    expect(seen).toEqual(['a']);
  });

  it('knows how much time is left, and never says none', async () => {
    const left = await run('op/step/do', (effect) => effect.commit(async () => ({ left: effect.remainingMs })), {
      forMs: 5_000,
    });
    expect(left.left).toBeGreaterThan(0);
    expect(left.left).toBeLessThanOrEqual(5_000);
    const late = await run('op/late/do', (effect) => effect.commit(async () => ({ left: effect.remainingMs })), {
      forMs: -5,
    });
    expect(late).toEqual({ left: 1 });
  });
});

const busyConnections = async () =>
  Number(
    (
      await database.query<{ n: string }>(
        `SELECT count(*) AS n FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'`,
      )
    )[0]!.n,
  );

describe('two messages of one step in two processes', () => {
  it('do it once: the second one waits for the first one’s answer, and holds no connection meanwhile', async () => {
    const other = await anotherProcess();
    const make = maker('a');
    const { handler, goOn } = slow(make);
    const first = run('op/step/do', handler);
    await underWay('op/step');
    const second = run('op/step/do', make, { by: other });
    await settled();
    expect(await busyConnections()).toBe(0);
    goOn();
    expect(await Promise.all([first, second])).toEqual([
      { made: 'a', call: 1 },
      { made: 'a', call: 1 },
    ]);
    expect([await things(), make.calls]).toEqual([['a'], 1]);
  });

  it('do it twice when the first one fails', async () => {
    const other = await anotherProcess();
    const { handler, goOn } = slow(() => Promise.reject(new Error('the hardware said no')));
    const first = run('op/step/do', handler);
    await underWay('op/step');
    const second = run('op/step/do', maker('a'), { by: other });
    goOn();
    await expect(first).rejects.toThrow('the hardware said no');
    expect(await second).toMatchObject({ made: 'a' });
  });

  it('and a hundred others that begin at the same moment: each step is done once', async () => {
    const processes = [here, await anotherProcess(), await anotherProcess()];
    const makers = Array.from({ length: 20 }, (_, at) => maker(`thing-${at}`));
    const answers = makers.flatMap((make, at) => processes.map((by) => run(`op/step-${at}/do`, make, { by })));
    await Promise.all(answers);
    expect(makers.map(({ calls }) => calls)).toEqual(makers.map(() => 1));
    expect(await things()).toHaveLength(20);
    expect(await held()).toEqual([]);
  });
});

describe('a process that has died', () => {
  it('has its effects taken over when its lease has ended', async () => {
    const dead = await anotherProcess();
    void run('op/step/do', slow(maker('a')).handler, { by: dead });
    await underWay('op/step');
    const again = run('op/step/do', maker('a'));
    await settled();
    expect(await things()).toEqual([]);
    await dead.silence();
    expect(await again).toMatchObject({ made: 'a' });
  });

  it('has them taken over at once when it is started again under its name', async () => {
    const url = await postgres.database();
    const open = (applicationName: string) =>
      Database.open({ url, poolSize: 5, applicationName, migrations: [], entities: [] });
    const [first, second] = [await open('killed'), await open('test')];
    const dead = await startProcess('phoenix', first);
    void run('op/step/do', slow(maker('a')).handler, { by: dead });
    await until('it is under way', async () => (await second.query('SELECT 1 FROM m2_leases')).length > 0);
    // As the kernel does for a process that is gone.
    await second.query(
      `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'killed'`,
    );
    const again = await startProcess('phoenix', second);
    expect(again.life.wasAlone).toBe(true);
    const answer = await run('op/step/do', (effect) => effect.commit(async () => ({ again: true })), { by: again });
    expect(answer).toEqual({ again: true });
    await Promise.all([again.life.end(), dead.life.end()]);
    await Promise.all([first.close(), second.close()]);
  });

  it('is not the one that lives under the same name', async () => {
    const { handler, goOn } = slow(maker('a'));
    const first = run('op/step/do', handler);
    await underWay('op/step');
    const twin = await anotherProcess('here');
    expect(twin.life.wasAlone).toBe(false);
    const second = run('op/step/do', maker('a'), { by: twin });
    await settled();
    goOn();
    expect(await Promise.all([first, second])).toEqual([await first, await first]);
  });

  it('is not one that lives under the name of a third, which was started again', async () => {
    const url = await postgres.database();
    const open = (applicationName: string) =>
      Database.open({ url, poolSize: 5, applicationName, migrations: [], entities: [] });
    const [first, second] = [await open('killed'), await open('test')];
    const dead = await startProcess('twin', first);
    const living = await startProcess('twin', second);
    const { handler, goOn } = slow(async (effect) => effect.commit(async () => ({ by: 'the living' })));
    const work = run('op/step/do', handler, { by: living });
    work.catch(() => {});
    await until('it is under way', async () => (await second.query('SELECT 1 FROM m2_leases')).length > 0);
    await second.query(
      `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'killed'`,
    );
    const again = await startProcess('twin', second);
    expect(again.life.wasAlone).toBe(true);
    const asks = vi.spyOn(second, 'query');
    const copy = run('op/step/do', async () => Promise.reject(new Error('it was taken over')), { by: again });
    let isOver = false;
    copy.catch(() => (isOver = true));
    await until('the copy waits', () => isOver || asks.mock.calls.some(([text]) => text.includes('unnest')));
    goOn();
    expect(await Promise.all([work, copy])).toEqual([{ by: 'the living' }, { by: 'the living' }]);
    await Promise.all([again, living, dead].map(({ life }) => life.end()));
    await Promise.all([first.close(), second.close()]);
  });

  it('in good order gives everything back at once', async () => {
    const leaving = await anotherProcess();
    const { handler, goOn } = slow(maker('a'));
    const left = run('op/step/do', handler, { by: leaving });
    await underWay('op/step');
    await leaving.life.end();
    expect(await run('op/step/do', maker('a'))).toMatchObject({ made: 'a' });
    goOn();
    await expect(left).rejects.toMatchObject({ code: 'service.unavailable' });
  });
});

describe('a process that stood still for longer than its lease', () => {
  /** It is silent, another one takes its step, and it comes back at the given place of its handler. */
  const comeBack = async (at: (effect: Effect) => Promise<unknown>) => {
    const paused = await anotherProcess();
    const { handler, goOn } = slow(at);
    const late = run('op/step/do', handler, { by: paused });
    await underWay('op/step');
    await paused.silence();
    expect(await run('op/step/do', maker('a'))).toMatchObject({ made: 'a' });
    late.catch(() => {});
    goOn();
    return { late, paused };
  };

  it('cannot commit', async () => {
    const { late } = await comeBack(maker('b'));
    await expect(late).rejects.toMatchObject({ code: 'service.unavailable', retryable: true });
    expect([await things(), await count('m2_effects'), await count('m2_outbox')]).toEqual([['a'], 1, 1]);
  });

  it('cannot write what it was about to make', async () => {
    const { late } = await comeBack((effect) =>
      effect.transaction((sql) => sql.query(`INSERT INTO things VALUES ('b')`)),
    );
    await expect(late).rejects.toMatchObject({ code: 'service.unavailable' });
    expect(await things()).toEqual(['a']);
  });

  it('cannot commit a transaction in which it stood still', async () => {
    const paused = await anotherProcess();
    const inside = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    const late = run(
      'op/step/do',
      (effect) =>
        effect.commit(async (sql) => {
          await sql.query(`INSERT INTO things VALUES ('b')`);
          inside.resolve();
          await gate.promise;
          return {};
        }),
      { by: paused },
    );
    await inside.promise;
    await paused.silence();
    expect(await run('op/step/do', maker('a'))).toMatchObject({ made: 'a' });
    gate.resolve();
    await expect(late).rejects.toMatchObject({ code: 'service.unavailable' });
    expect(await things()).toEqual(['a']);
  });

  it('holds its step until the end of a transaction in which it wrote, and then not any more', async () => {
    const paused = await anotherProcess();
    const inside = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    const taken = Promise.withResolvers<void>();
    const late = run(
      'op/step/do',
      async (effect) => {
        await effect.transaction(async (sql) => {
          await sql.query(`INSERT INTO things VALUES ('b')`);
          inside.resolve();
          await gate.promise;
        });
        // Else it might commit before the other one, which waits, has come to its turn.
        await taken.promise;
        return effect.commit(async () => ({}));
      },
      { by: paused },
    );
    await inside.promise;
    await paused.silence();
    const next = run('op/step/do', maker('a'));
    await until('the next one waits for the transaction', async () => {
      const rows = await database.query(`SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'`);
      return rows.length > 0;
    });
    expect(await things()).toEqual([]);
    late.catch(() => {});
    gate.resolve();
    expect(await next).toMatchObject({ made: 'a' });
    taken.resolve();
    await expect(late).rejects.toMatchObject({ code: 'service.unavailable' });
    expect(await things()).toEqual(['a', 'b']);
  });

  it('stops its handlers before their next act, by its own clock, whatever the database says', async () => {
    const clock = vi.spyOn(performance, 'now');
    try {
      const { handler, goOn } = slow(async (effect) => {
        await expect(effect.query('SELECT 1')).rejects.toMatchObject({ code: 'service.unavailable' });
        expect(effect.signal.aborted).toBe(true);
        return maker('a')(effect);
      });
      const late = run('op/step/do', handler);
      await underWay('op/step');
      const now = performance.now();
      clock.mockImplementation(() => now + leaseSeconds * 1_000);
      goOn();
      await expect(late).rejects.toMatchObject({ code: 'service.unavailable' });
    } finally {
      clock.mockRestore();
    }
    expect(await things()).toEqual([]);
  });

  it('begins a new life with its next heartbeat, in which nothing of the old one is its own', async () => {
    const { late, paused } = await comeBack(maker('b'));
    await expect(late).rejects.toMatchObject({ code: 'service.unavailable' });
    const before = paused.life.current;
    await database.query('DELETE FROM m2_processes WHERE id = $1', [before.id]);
    await paused.life.beat();
    expect(before.signal.aborted).toBe(true);
    expect(paused.life.current.id).not.toBe(before.id);
    expect(await run('op/step/do', maker('b'), { by: paused })).toMatchObject({ made: 'a' });
    expect(await run('op/next/do', maker('b'), { by: paused })).toMatchObject({ made: 'b' });
  });

  it('leaves what it held to the others: its old life is not renewed', async () => {
    const { handler, goOn } = slow(maker('a'));
    const late = run('op/step/do', handler);
    late.catch(() => {});
    await underWay('op/step');
    const before = here.life.current;
    await database.query(`UPDATE m2_processes SET seen_at = now() - interval '14 seconds' WHERE id = $1`, [before.id]);
    before.end('It stood still');
    await here.life.beat();
    const [row] = await database.query<{ fresh: boolean }>(
      `SELECT seen_at > now() - interval '10 seconds' AS fresh FROM m2_processes WHERE id = $1`,
      [before.id],
    );
    expect(row).toEqual({ fresh: false });
    goOn();
    await expect(late).rejects.toMatchObject({ code: 'service.unavailable' });
  });

  it('is told by its driver’s signal while it waits for the hardware', async () => {
    const paused = await anotherProcess();
    const stopped = run(
      'op/step/do',
      (effect) =>
        new Promise((_, reject) => {
          effect.signal.addEventListener('abort', () => reject(new Error('the driver was stopped')));
        }),
      { by: paused },
    );
    await underWay('op/step');
    stopped.catch(() => {});
    await database.query('DELETE FROM m2_processes WHERE id = $1', [paused.life.current.id]);
    await paused.life.beat();
    await expect(stopped).rejects.toMatchObject({ code: 'service.unavailable' });
  });
});

describe('a lease', () => {
  it('that could not be given back is kept by who takes it anew', async () => {
    const { handler, goOn } = slow(() => Promise.reject(new Error('the hardware said no')));
    const failed = run('op/step/do', handler);
    await underWay('op/step');
    await postgres.halt();
    goOn();
    await expect(failed).rejects.toThrow('the hardware said no');
    await postgres.start();
    const make = maker('a');
    const again = slow(make);
    const second = await until('the database is back', async () => {
      const work = run('op/step/do', again.handler);
      return Promise.race([work.catch(() => undefined), underWay('op/step').then(() => ({ work }))]);
    });
    await until('a heartbeat comes through', () =>
      here.life.beat().then(
        () => true,
        () => false,
      ),
    );
    expect(await held()).toEqual(['op/step']);
    again.goOn();
    expect(await (second as { work: Promise<unknown> }).work).toMatchObject({ made: 'a' });
  });

  it('that was taken without a word of it is given back with the next heartbeat', async () => {
    const ask = vi.spyOn(database, 'query').mockImplementationOnce(async (...asked) => {
      await database.query(...asked);
      throw Object.assign(new Error('Connection terminated unexpectedly'), { code: '08006' });
    });
    await expect(run('op/step/do', maker('a'))).rejects.toThrow(/terminated/);
    ask.mockRestore();
    await here.life.beat();
    expect(await held()).toEqual([]);
  });

  it('that could not be given back goes with the next heartbeat', async () => {
    const { handler, goOn } = slow(() => Promise.reject(new Error('the hardware said no')));
    const failed = run('op/step/do', handler);
    await underWay('op/step');
    await postgres.halt();
    goOn();
    await expect(failed).rejects.toThrow('the hardware said no');
    await postgres.start();
    await until('a heartbeat comes through', () =>
      here.life.beat().then(
        () => true,
        () => false,
      ),
    );
    expect(await held()).toEqual([]);
  });
});

/** Other connections of the pool were cut as well, and each says so to whoever takes it next. */
const triedAgain = () => until('the same message succeeds', () => run('op/step/do', maker('a')).catch(() => undefined));

describe('a connection that is lost under way', () => {
  it('while the hardware works is none of the effect’s: it goes on and commits', async () => {
    const handler = async (effect: Effect) => {
      await effect.transaction((sql) => sql.query(`INSERT INTO things VALUES ('intended')`));
      await postgres.cutConnections();
      await until('the pool has noticed', () =>
        database.query('SELECT 1').then(
          () => true,
          () => false,
        ),
      );
      return maker('a')(effect);
    };
    expect(await run('op/step/do', handler)).toMatchObject({ made: 'a' });
    expect([await things(), await count('m2_effects')]).toEqual([['a', 'intended'], 1]);
  });

  it('within a transaction fails the effect as something to try again, and does not end the process', async () => {
    const failing = (effect: Effect) =>
      effect.commit(async (sql) => {
        await sql.query(`INSERT INTO things VALUES ('a')`);
        await postgres.cutConnections();
        await until('the pool has noticed', () =>
          database.query('SELECT 1').then(
            () => true,
            () => false,
          ),
        );
        return {};
      });
    await expect(run('op/step/do', failing)).rejects.toMatchObject({ code: 'service.unavailable', retryable: true });
    expect(await things()).toEqual([]);
    expect(await triedAgain()).toMatchObject({ made: 'a' });
  });

  it('in the middle of a query does the same', async () => {
    const failing = async (effect: Effect) => {
      const asleep = effect.query('SELECT pg_sleep(60)');
      asleep.catch(() => {});
      await until('the query runs', async () => {
        const rows = await database.query(
          `SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'`,
        );
        return rows.length > 0;
      });
      await postgres.cutConnections();
      await asleep;
      return effect.commit(async () => ({}));
    };
    await expect(run('op/step/do', failing)).rejects.toMatchObject({ code: 'service.unavailable' });
    expect(await triedAgain()).toMatchObject({ made: 'a' });
  });

  it('because the server was restarted loses no step: it is still held, and done once', async () => {
    const other = await anotherProcess();
    const make = maker('a');
    const { handler, goOn } = slow(make);
    const first = run('op/step/do', handler);
    await underWay('op/step');
    await postgres.halt();
    await postgres.start();
    await until('the pool has noticed', () =>
      database.query('SELECT 1').then(
        () => true,
        () => false,
      ),
    );
    const second = run('op/step/do', make, { by: other });
    await settled();
    expect(make.calls).toBe(0);
    goOn();
    expect(await first).toMatchObject({ call: 1 });
    expect(await second).toMatchObject({ call: 1 });
    expect(await things()).toEqual(['a']);
  });

  it('because the server is away is told to whoever asks, until it is back', async () => {
    await postgres.halt();
    await expect(database.query('SELECT 1')).rejects.toMatchObject({ code: 'service.unavailable' });
    await expect(run('op/step/do', maker('a'))).rejects.toMatchObject({ code: 'service.unavailable' });
    await postgres.start();
    expect(await triedAgain()).toMatchObject({ made: 'a' });
  });
});
