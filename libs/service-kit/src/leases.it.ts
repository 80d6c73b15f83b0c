import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Database } from './database.js';
import { Leases } from './leases.js';
import { Life } from './life.js';
import { makeLog } from './log.js';
import { sharedPostgres, type TestPostgres, until } from './testing/index.js';

let postgres: TestPostgres;
let database: Database;
const log = makeLog('test', 'silent');
const never = new AbortController().signal;

interface TestProcess {
  life: Life;
  leases: Leases;
  /** Names that were to be kept for good, and were lost. */
  lost: string[];
}
let here: TestProcess;
let other: TestProcess;

async function startProcess(instance: string): Promise<TestProcess> {
  const life = await Life.begin(database, instance, log);
  const lost: string[] = [];
  return { life, leases: new Leases(database, life, log, ({ message }) => void lost.push(message)), lost };
}
const silence = ({ life }: TestProcess) =>
  database.query(`UPDATE m2_processes SET seen_at = now() - interval '16 seconds' WHERE id = $1`, [life.current.id]);
const held = async () => (await database.query<{ name: string }>('SELECT name FROM m2_leases')).map(({ name }) => name);
/** As after a standstill: the heartbeat finds the lifetime over, and begins another one. */
const comeBack = async ({ life }: TestProcess) => {
  life.current.end('It stood still');
  await life.beat();
};

/** Work that lasts until the test ends it. */
function work(log: string[], name: string) {
  const gate = Promise.withResolvers<void>();
  const run = async () => {
    log.push(`+${name}`);
    await gate.promise;
    log.push(`-${name}`);
  };
  return { run, end: gate.resolve };
}

beforeAll(async () => {
  postgres = await sharedPostgres();
  const url = await postgres.database();
  database = await Database.open({ url, poolSize: 10, applicationName: 'test', migrations: [], entities: [] });
});
afterAll(async () => {
  await database?.close();
  await postgres?.stop();
});
beforeEach(async () => {
  await database.query('TRUNCATE m2_processes, m2_leases');
  [here, other] = await Promise.all([startProcess('here'), startProcess('other')]);
});
afterEach(() => Promise.all([here, other].map(({ life }) => life.end())));

describe('a name', () => {
  it('is held by one at a time: in a process in order, and in another one after that', async () => {
    const seen: string[] = [];
    const [first, second, third] = [work(seen, 'first'), work(seen, 'second'), work(seen, 'third')];
    const all = [here.leases.hold('bmc', never, first.run), here.leases.hold('bmc', never, second.run)];
    await until('the first is at work', () => seen.length > 0);
    all.push(other.leases.hold('bmc', never, third.run));
    for (const { end } of [third, second, first]) end();
    await Promise.all(all);
    expect(seen).toHaveLength(6);
    for (const at of [0, 2, 4]) expect(seen[at + 1]).toBe(seen[at]!.replace('+', '-'));
    expect(seen.indexOf('+first')).toBe(0);
    expect(await held()).toEqual([]);
  });

  it('does not wait for another one', async () => {
    const seen: string[] = [];
    const first = work(seen, 'first');
    const running = here.leases.hold('bmc a', never, first.run);
    await until('it is at work', () => seen.length > 0);
    expect(await other.leases.hold('bmc b', never, async () => 'done')).toBe('done');
    first.end();
    await running;
  });

  it('is given back by work that failed', async () => {
    await expect(here.leases.hold('bmc', never, () => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
    expect(await other.leases.hold('bmc', never, async () => 'done')).toBe('done');
  });

  it('is not waited for by who gave up, wherever it is held', async () => {
    const seen: string[] = [];
    const first = work(seen, 'first');
    const running = here.leases.hold('bmc', never, first.run);
    await until('it is at work', () => seen.length > 0);
    for (const { leases } of [here, other]) {
      const patience = new AbortController();
      const waiting = leases.hold('bmc', patience.signal, work(seen, 'impatient').run);
      patience.abort(new Error('gave up'));
      await expect(waiting).rejects.toThrow('gave up');
    }
    first.end();
    await running;
    expect(seen).toEqual(['+first', '-first']);
  });

  it('is free when its holder has died', async () => {
    const seen: string[] = [];
    const first = work(seen, 'first');
    const dead = here.leases.hold('bmc', never, first.run);
    await until('it is at work', () => seen.length > 0);
    const next = other.leases.hold('bmc', never, async () => 'done');
    await silence(here);
    expect(await next).toBe('done');
    first.end();
    await dead;
  });

  it('that is taken has its work stopped, and cannot be asserted any more', async () => {
    const outcome = here.leases.hold('bmc', never, async ({ signal, assertHeld }) => {
      await database.transaction(assertHeld);
      await silence(here);
      await other.leases.hold('bmc', never, async () => {});
      await expect(database.transaction(assertHeld)).rejects.toMatchObject({ code: 'service.unavailable' });
      expect(signal.aborted).toBe(false);
      await comeBack(here);
      expect(signal.aborted).toBe(true);
      return assertHeld(database);
    });
    await expect(outcome).rejects.toMatchObject({ code: 'service.unavailable' });
  });

  it('cannot be taken while a transaction goes on that has asserted it', async () => {
    const inside = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    const seen: string[] = [];
    const first = here.leases.hold('bmc', never, ({ assertHeld }) =>
      database.transaction(async (sql) => {
        await assertHeld(sql);
        inside.resolve();
        await gate.promise;
        seen.push('committed');
      }),
    );
    await inside.promise;
    await silence(here);
    const next = other.leases.hold('bmc', never, async () => void seen.push('taken'));
    await until('it waits', async () => {
      const rows = await database.query(
        `SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`,
      );
      return rows.length > 0;
    });
    gate.resolve();
    await Promise.all([first, next]);
    expect(seen).toEqual(['committed', 'taken']);
  });
});

describe('work that one process does and the others leave', () => {
  it('is left while it is done, and not after that', async () => {
    const seen: string[] = [];
    const first = work(seen, 'first');
    const running = here.leases.tryHold('import', first.run);
    await until('it is at work', () => seen.length > 0);
    await other.leases.tryHold('import', work(seen, 'other').run);
    first.end();
    await running;
    const again = work(seen, 'again');
    again.end();
    await other.leases.tryHold('import', again.run);
    expect(seen).toEqual(['+first', '-first', '+again', '-again']);
  });
});

describe('what there is one of', () => {
  const why = 'Another one lives, and there can be one only';

  it('refuses the second one, with the reason, as soon as the first one is seen to live', async () => {
    await here.leases.keep('storage', why);
    let refused: unknown;
    const second = other.leases.keep('storage', why).catch((error: unknown) => void (refused = error));
    await until('it was refused', async () => {
      await here.life.beat();
      return refused;
    });
    await second;
    expect(refused).toMatchObject({ message: why });
  });

  it('goes to the next one when the first has died or ended', async () => {
    await here.leases.keep('storage', why);
    await silence(here);
    await other.leases.keep('storage', why);
    await other.life.end();
    await comeBack(here);
    await until('it has it again', async () => (await held()).includes('storage'));
    expect(here.lost).toEqual([]);
  });

  it('ends a process that comes back and finds another one in its place', async () => {
    await here.leases.keep('storage', why);
    await silence(here);
    await other.leases.keep('storage', why);
    await comeBack(here);
    await until('it is told', async () => {
      await other.life.beat();
      return here.lost.length > 0;
    });
    expect(here.lost).toEqual([why]);
  });
});

describe('another process that falls silent', () => {
  it('is noticed once, and again when it has come back in between', async () => {
    let noticed = 0;
    here.life.onSilence(() => (noticed += 1));
    await here.life.beat();
    expect(noticed).toBe(0);
    await silence(other);
    await here.life.beat();
    await here.life.beat();
    expect(noticed).toBe(1);
    await comeBack(other);
    await here.life.beat();
    await silence(other);
    await here.life.beat();
    expect(noticed).toBe(2);
  });
});
