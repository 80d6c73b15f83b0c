import { diskCreate, diskUntag, imageImport, operationEnded } from '@m2/contracts';
import {
  Claims,
  defineSaga,
  Journal,
  LostOperation,
  newStep,
  type OperationRow,
  OperationStore,
  SagaRegistry,
  send,
} from '@m2/saga';
import type { Database } from '@m2/service-kit';
import { until } from '@m2/service-kit/testing';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openGateway, type OperationBody, type TestGateway } from '../testing/gateway.js';
import { earlierSagas, sagas } from '../sagas/index.js';

let gateway: TestGateway;
let project: { id: string };
let image: { id: string };
let count = 0;

beforeAll(async () => {
  // The first replica takes one operation at a time, so that it leaves what is not its own to others.
  gateway = await openGateway({ environment: { M2_INSTANCE: 'first', M2_CONCURRENCY: '1' } });
  project = await gateway.project('lab');
  image = gateway.standIns.addImage('ubuntu', project.id);
});
afterAll(() => gateway?.close());

const newDisk = async () => {
  const body = { name: `disk-${(count += 1)}`, image: image.id };
  return (await gateway.ask('POST', '/v1/projects/lab/disks', { body })).body as OperationBody;
};
const row = async (id: string) =>
  (
    await gateway.kit.database.query<{ fence: number; runner: string | null; state: string }>(
      'SELECT fence::int, runner, state FROM operations WHERE id = $1',
      [id],
    )
  )[0]!;
const ends = async (id: string) =>
  (
    await gateway.kit.database.query('SELECT 1 FROM m2_outbox WHERE type = $1 AND entity = $2', [
      operationEnded.type,
      id,
    ])
  ).length;
/** As if the first runner, when it still has the operation, had been asleep for longer than its lease. */
const expire = (id: string) =>
  gateway.kit.database.query(
    `UPDATE operations SET lease_until = now() - interval '1 second' WHERE id = $1 AND runner = 'first'`,
    [id],
  );
/** The commands of an operation that make its disk or its image, and how many those are. */
const sentFor = (id: string) =>
  gateway.standIns.asked.filter(
    ({ subject, effect }) => effect?.startsWith(id) && [diskCreate.subject, imageImport.subject].includes(subject),
  );
const sent = (id: string) => sentFor(id).length;

describe('an operation whose runner’s lease ran out', () => {
  it('is taken over once, and what the first runner still does counts no more', async () => {
    const release = gateway.standIns.hold(diskCreate);
    const { id } = await newDisk();
    await until('the first runner has sent the command', () => sent(id) === 1);
    expect(await row(id)).toEqual({ fence: 1, runner: 'first', state: 'running' });
    const others = await Promise.all([
      gateway.replica({ M2_INSTANCE: 'second', M2_CONCURRENCY: '64' }),
      gateway.replica({ M2_INSTANCE: 'third', M2_CONCURRENCY: '64' }),
    ]);
    const taken = await until('another runner has it', async () => {
      const now = await row(id);
      if (now.runner === 'first') await expire(id);
      return now.runner === 'first' ? undefined : now;
    });
    expect(taken.fence).toBe(2);
    expect(['second', 'third']).toContain(taken.runner);
    await until('the new runner has sent the command again', () => sent(id) === 2);
    // Both answers arrive, the first runner's as well.
    release();
    expect(await gateway.ended({ id })).toMatchObject({ state: 'succeeded' });
    await Promise.all(others.map((other) => other.stop()));
    expect([await ends(id), (await row(id)).fence]).toEqual([1, 2]);
    expect(new Set(sentFor(id).map(({ effect }) => effect)).size).toBe(1);
  });
});

describe('a replica that starts again under its name', () => {
  it('goes on with its operations at once, without waiting for its own lease', async () => {
    const replica = await gateway.replica({ M2_INSTANCE: 'phoenix', M2_CONCURRENCY: '64' });
    const release = gateway.standIns.hold(imageImport);
    const body = { name: 'slow', source: { kind: 'file', path: '/x' } };
    const answer = await fetch(`${replica.origin}/v1/projects/lab/images`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${'an-admin-token-of-the-tests-of-the-gateway'}`,
        'content-type': 'application/json',
      },
      body: JSON.stringify(body),
    });
    const { id } = (await answer.json()) as OperationBody;
    await until('it is under way', () => sent(id) === 1);
    const stopping = replica.stop();
    release();
    await stopping;
    const again = await gateway.replica({ M2_INSTANCE: 'phoenix', M2_CONCURRENCY: '64' });
    expect(await gateway.ended({ id })).toMatchObject({ state: 'succeeded' });
    expect(await ends(id)).toBe(1);
    await again.stop();
  });

  it('does not take those of a twin that lives', async () => {
    const release = gateway.standIns.hold(diskCreate);
    const { id } = await newDisk();
    await until('it is under way', () => sent(id) === 1);
    const twin = await gateway.replica({ M2_INSTANCE: 'first', M2_CONCURRENCY: '64' });
    expect(await row(id)).toMatchObject({ fence: 1, runner: 'first' });
    release();
    expect(await gateway.ended({ id })).toMatchObject({ state: 'succeeded' });
    await twin.stop();
    expect((await row(id)).fence).toBe(1);
  });
});

describe('operations for which there is no room', () => {
  it('are not kept out by those that only wait', async () => {
    const begun = await gateway.ask('POST', '/v1/projects/lab/images', {
      body: { name: 'never-sent', source: { kind: 'upload' } },
    });
    const { id, about } = begun.body as OperationBody;
    await until('the service waits for the upload', () => gateway.standIns.images.has(about['image']!));
    const others = [await newDisk(), await newDisk()];
    for (const other of others) expect(await gateway.ended(other)).toMatchObject({ state: 'succeeded' });
    await gateway.ask('POST', `/v1/operations/${id}/cancel`);
    expect(await gateway.ended({ id })).toMatchObject({ state: 'cancelled' });
  });

  it('wait in the database, and are run as soon as there is', async () => {
    const release = gateway.standIns.hold(diskCreate);
    const begun = [await newDisk(), await newDisk(), await newDisk()];
    await until('the first is under way', () => sent(begun[0]!.id) === 1);
    expect(await row(begun[2]!.id)).toMatchObject({ runner: null, fence: 0 });
    release();
    for (const { id } of begun) expect(await gateway.ended({ id })).toMatchObject({ state: 'succeeded' });
  });

  it('can be cancelled before anybody runs them, and then do nothing', async () => {
    const release = gateway.standIns.hold(diskCreate);
    const running = await newDisk();
    await until('the first is under way', () => sent(running.id) === 1);
    const waiting = await newDisk();
    expect((await gateway.ask('POST', `/v1/operations/${waiting.id}/cancel`)).status).toBe(202);
    release();
    expect(await gateway.ended(waiting)).toMatchObject({ state: 'cancelled' });
    expect(sent(waiting.id)).toBe(0);
    await gateway.ended(running);
  });
});

/** It has one step, whatever becomes of the product's sagas. */
const toySaga = defineSaga<object>({
  kind: 'disk.create',
  version: 1,
  forwardOnly: false,
  steps: [
    { name: 'only', after: [], do: () => send(diskUntag, { tagId: '', diskId: '', project: '' }), deadlineMs: 1_000 },
  ],
});

describe('the store of operations', () => {
  const actor = { token: uuidv7(), name: 'test' };
  const registry = new SagaRegistry(sagas, earlierSagas);
  const create = async () => {
    const store = new OperationStore(gateway.kit, registry, 'projects');
    const operation = {
      id: uuidv7(),
      project: project.id,
      kind: toySaga.kind,
      input: {},
      about: {},
      actor,
    };
    const { row: created } = await store.create(toySaga as never, operation, 'nobody');
    return { store, operation: created as OperationRow };
  };
  const me = { id: uuidv7(), instance: 'nobody', knows: registry.known };
  const claims = () => new Claims(gateway.kit, me);
  const succeeded = { state: 'succeeded', error: null, attention: null } as const;
  const failed = { state: 'failed', error: null, attention: null } as const;

  it('refuses whoever does not hold the operation any more, in everything', async () => {
    const { store, operation } = await create();
    const journal = new Journal(gateway.kit.database);
    const old = { ...operation };
    await gateway.kit.database.query('UPDATE operations SET fence = fence + 1 WHERE id = $1', [operation.id]);
    const error = { code: 'internal' as const, detail: 'x' };
    await expect(
      journal.write({ ...old, takeovers: 0 }, [{ ...newStep({ name: 'only', after: [] }), state: 'done' }]),
    ).rejects.toBeInstanceOf(LostOperation);
    await expect(store.turnBack(old, error, error)).rejects.toBeInstanceOf(LostOperation);
    await expect(store.end(old, succeeded)).rejects.toBeInstanceOf(LostOperation);
    expect(await claims().keepLeases([{ ...old, steady: false }])).toEqual(new Map());
    expect((await store.show(old.id)).steps[0]!.state).toBe('waiting');
    expect([(await row(old.id)).state, await ends(old.id)]).toEqual(['running', 0]);
    await store.end({ ...old, fence: 2 }, { ...failed, error });
    expect([(await row(old.id)).state, await ends(old.id)]).toEqual(['failed', 1]);
  });

  it('does not let one operation that was lost spoil what others write at the same time', async () => {
    const [lost, kept] = [await create(), await create()];
    const journal = new Journal(gateway.kit.database);
    await gateway.kit.database.query('UPDATE operations SET fence = 9 WHERE id = $1', [lost.operation.id]);
    const done = { ...newStep({ name: 'only', after: [] }), state: 'done' as const };
    const outcomes = await Promise.allSettled([
      journal.write({ id: lost.operation.id, fence: 1, takeovers: 0 }, [done]),
      journal.write({ id: kept.operation.id, fence: 1, takeovers: 0 }, [{ ...done, state: 'running' }]),
      journal.write({ id: kept.operation.id, fence: 1, takeovers: 0 }, [{ ...done, reply: { a: 1 } }]),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'fulfilled']);
    expect((await kept.store.show(kept.operation.id)).steps).toMatchObject([{ state: 'done' }]);
    const [step] = await gateway.kit.database.query<{ reply: unknown }>(
      'SELECT reply FROM operation_steps WHERE operation = $1',
      [kept.operation.id],
    );
    expect(step!.reply).toEqual({ a: 1 });
    for (const { store, operation } of [kept]) await store.end(operation, failed);
    await lost.store.end({ ...lost.operation, fence: 9 }, failed);
  });

  it('does not let one operation that cannot be written keep others from being written', async () => {
    const [bad, good] = [await create(), await create()];
    const journal = new Journal(gateway.kit.database);
    const done = { ...newStep({ name: 'only', after: [] }), state: 'done' as const };
    const outcomes = await Promise.allSettled([
      journal.write(bad.operation, [{ ...done, reply: { said: '\0' } }]),
      journal.write(good.operation, [done]),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'fulfilled']);
    for (const { store, operation } of [bad, good]) await store.end(operation, failed);
  });

  it('is renewed while steps of others are written, in whatever order: neither waits for the other for ever', async () => {
    const { database } = gateway.kit;
    const [first, second] = [await create(), await create()];
    const [a, b] = [first.operation, second.operation];
    const waiting = async (count: number) =>
      until(`${count} wait for a lock`, async () => {
        const rows = await database.query(`SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'`);
        return rows.length >= count;
      });
    const done = { ...newStep({ name: 'only', after: [] }), state: 'done' as const };
    // As in a large table, where each row is found, and locked, as it is asked for.
    const large: Pick<Database, 'query'> = {
      query: (text, values) =>
        database.transaction(async (sql) => {
          for (const way of ['hashjoin', 'mergejoin', 'seqscan']) await sql.query(`SET LOCAL enable_${way} = off`);
          return sql.query(text, values);
        }),
    };
    const journal = new Journal(large as Database);
    const renewer = new Claims({ ...gateway.kit, database: large as Database }, me);
    const outcomes = await database.transaction(async (sql) => {
      await sql.query('SELECT 1 FROM operations WHERE id = $1 FOR UPDATE', [a.id]);
      const renewing = renewer.keepLeases([a, b].map(({ id, fence }) => ({ id, fence, steady: false })));
      await waiting(1);
      const writing = Promise.allSettled([renewing, ...[b, a].map((one) => journal.write(one, [done]))]);
      await waiting(2);
      return { writing };
    });
    expect((await outcomes.writing).map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'fulfilled']);
    for (const { store, operation } of [first, second]) await store.end(operation, failed);
  });
});
