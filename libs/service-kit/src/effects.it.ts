import { diskDetach, diskDetached, M2Error } from '@m2/contracts';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Database } from './database.js';
import { type Effect, runEffect } from './effects.js';
import { type OwnPostgres, startPostgres, until } from './testing/index.js';

let postgres: OwnPostgres;
let database: Database;
let woken = 0;
const id = '0198f7a0-0000-7000-8000-000000000001';
const detached = { id, project: id, name: 'web-1', holder: id };
const meta = { entity: id, project: id };

beforeAll(async () => {
  postgres = await startPostgres();
  database = await Database.open({
    url: await postgres.database(),
    poolSize: 10,
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
  await database.query('TRUNCATE things, m2_effects, m2_fences, m2_outbox');
});

const run = <T>(key: string, handler: (effect: Effect) => Promise<T>, { fence = 1, forMs = 10_000 } = {}) =>
  runEffect(
    database,
    diskDetach,
    { key, fence, deadline: performance.now() + forMs },
    () => void (woken += 1),
    handler,
  );

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
const somebodyWaits = () =>
  until('another run waits for the lock', async () => {
    const rows = await database.query(`SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`);
    return rows.length > 0;
  });
const noLocks = async () => (await database.query(`SELECT 1 FROM pg_locks WHERE locktype = 'advisory'`)).length === 0;

describe('an effect', () => {
  it('is done once however often it is asked for, and always answers the same', async () => {
    const make = maker('a');
    const first = await run('op/step/do', make);
    const second = await run('op/step/do', make);
    expect(first).toEqual({ made: 'a', call: 1 });
    expect(second).toEqual(first);
    expect(make.calls).toBe(1);
    expect([await things(), await count('m2_outbox'), woken]).toEqual([['a'], 1, 1]);
    await until('the lock was given back', noLocks);
  });

  it('is done once by those who ask at the same time: the others wait for the first one’s answer', async () => {
    const gate = Promise.withResolvers<void>();
    const make = maker('a');
    const slow = async (effect: Effect) => {
      await gate.promise;
      return make(effect);
    };
    const first = run('op/step/do', slow);
    await until('the first has the lock', async () => !(await noLocks()));
    const others = [run('op/step/do', make), run('op/step/do', make)];
    await somebodyWaits();
    expect(make.calls).toBe(0);
    gate.resolve();
    expect(await Promise.all([first, ...others])).toEqual(Array.from({ length: 3 }, () => ({ made: 'a', call: 1 })));
    expect(make.calls).toBe(1);
  });

  it('shares its lock with its undo, so the two never run at the same time', async () => {
    const order: string[] = [];
    const gate = Promise.withResolvers<void>();
    const done = run('op/step/do', async (effect) => {
      order.push('do begins');
      await gate.promise;
      order.push('do ends');
      return effect.commit(async () => ({}));
    });
    await until('the do is under way', () => order.length > 0);
    const undone = run(
      'op/step/undo',
      (effect) => {
        order.push('undo');
        return effect.commit(async () => ({}));
      },
      { fence: 2 },
    );
    await somebodyWaits();
    gate.resolve();
    await Promise.all([done, undone]);
    expect(order).toEqual(['do begins', 'do ends', 'undo']);
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
    await until('the lock was given back', noLocks);
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
    await until('the lock was given back', noLocks);
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
    // Locks are given back after the answer: that of the test before must not be taken for ours.
    await until('nobody has a lock', noLocks);
    const gate = Promise.withResolvers<void>();
    const slow = run('op/step/do', async (effect) => {
      await gate.promise;
      return effect.commit(async () => ({}));
    });
    await until('the first has the lock', async () => !(await noLocks()));
    await expect(run('op/step/do', maker('a'), { forMs: 200 })).rejects.toMatchObject({ code: 'request.deadline' });
    gate.resolve();
    await slow;
    await until('the lock was given back', noLocks);
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

/** Other connections of the pool were cut as well, and each says so to whoever takes it next. */
const triedAgain = () => until('the same message succeeds', () => run('op/step/do', maker('a')).catch(() => undefined));

describe('a connection that is lost under way', () => {
  it('fails the effect as something to try again, frees its lock, and does not end the process', async () => {
    const failing = async (effect: Effect) => {
      await effect.transaction((sql) => sql.query(`INSERT INTO things VALUES ('intended')`));
      // Between two queries, when nobody on our side asks anything of the connection.
      await postgres.cutConnections();
      await until('the server has forgotten the connection', noLocks);
      return effect.commit(async () => ({}));
    };
    await expect(run('op/step/do', failing)).rejects.toMatchObject({ code: 'service.unavailable', retryable: true });
    expect(await triedAgain()).toMatchObject({ made: 'a' });
    expect(await things()).toEqual(['a', 'intended']);
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

  it('because the server is away is told to whoever asks, until it is back', async () => {
    await postgres.halt();
    await expect(database.query('SELECT 1')).rejects.toMatchObject({ code: 'service.unavailable' });
    await expect(run('op/step/do', maker('a'))).rejects.toMatchObject({ code: 'service.unavailable' });
    await postgres.start();
    expect(await triedAgain()).toMatchObject({ made: 'a' });
  });
});
