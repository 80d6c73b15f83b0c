import { type Operation, operationNeedsAttention, type OperationKind, operationKinds } from '@m2/contracts';
import { until } from '@m2/service-kit/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sagas } from '../sagas/index.js';
import { nextVersion, openRunners, type TestRunner, type TestRunners } from '../testing/runners.js';

let all: TestRunners;
beforeAll(async () => {
  all = await openRunners();
});
afterAll(() => all?.close());

const old = { current: sagas };
/** The next version, which keeps the one before for what is in flight; and one that does not. */
const newer = { current: nextVersion(), earlier: Object.values(sagas) };
const newOnly = { current: nextVersion() };

const names = ({ steps }: Operation) => steps.map(({ name }) => name);

/** Begins one of a kind, and returns when its first command is at its service and waits there. */
async function beginHeld({ runner, services }: TestRunner, kind: OperationKind): Promise<Operation> {
  services.hold();
  const operation = await all.begin(runner, kind);
  await until('the first command is sent', () => services.sent.some((effect) => effect.startsWith(operation.id)));
  return operation;
}

/** One of each kind, in the middle of it, when its runner dies. */
async function dieInTheMiddle(runner: TestRunner): Promise<Operation[]> {
  const begun: Operation[] = [];
  for (const kind of operationKinds) begun.push(await beginHeld(runner, kind));
  runner.kill();
  for (const { id } of begun) await all.expire(id);
  return begun;
}
const ofKind = (operations: Operation[], wanted: OperationKind) => operations.find(({ kind }) => kind === wanted)!;

describe('an upgrade in the middle of', () => {
  let ended: Operation[];
  let begunAfter: Operation[];
  beforeAll(async () => {
    const begun = await dieInTheMiddle(await all.start(old));
    const after = await all.start(newer);
    ended = await Promise.all(begun.map((operation) => all.ended(after.runner, operation)));
    const next = await Promise.all(operationKinds.map((kind) => all.begin(after.runner, kind)));
    begunAfter = await Promise.all(next.map((operation) => all.ended(after.runner, operation)));
    await after.stop();
  });

  it.each(operationKinds)('%s ends it under the version that it began with', (kind) => {
    expect(ofKind(ended, kind)).toMatchObject({ state: 'succeeded', attention: null });
    expect(names(ofKind(ended, kind))).not.toContain('isolate-nic');
    // What is begun from then on has the new step.
    expect(ofKind(begunAfter, kind)).toMatchObject({ state: 'succeeded' });
    expect(ofKind(begunAfter, kind).steps.at(-1)).toMatchObject({ name: 'isolate-nic', state: 'done' });
  });
});

it('an operation that a gateway cannot make out keeps it from nothing else', async () => {
  const dead = await all.start(old, { instance: 'phoenix' });
  const { id } = await beginHeld(dead, 'disk.tag');
  dead.kill();
  const unreadable = {
    ...sagas['disk.tag'],
    steps: () => {
      throw new Error('no such input');
    },
  };
  const again = await all.start({ current: { ...sagas, 'disk.tag': unreadable } }, { instance: 'phoenix' });
  const other = await all.begin(again.runner, 'disk.untag');
  expect(await all.ended(again.runner, other)).toMatchObject({ state: 'succeeded' });
  await again.stop();
  await all.expire(id);
  const { runner, stop } = await all.start(old);
  expect(await all.ended(runner, { id })).toMatchObject({ state: 'succeeded' });
  await stop();
});

describe('a downgrade in the middle of', () => {
  let sentByOld: string[];
  let left: Operation[];
  let parked: Operation[];
  let resumed: Operation[];
  beforeAll(async () => {
    const begun = await dieInTheMiddle(await all.start(newer));
    const after = await all.start(old);
    // What it knows, it runs; so it has looked at what there is.
    await all.ended(after.runner, await all.begin(after.runner, 'disk.tag'));
    left = await Promise.all(begun.map(({ id }) => after.runner.store.show(id)));
    await all.anHourPasses([after]);
    parked = await Promise.all(begun.map((operation) => all.ended(after.runner, operation)));
    sentByOld = after.services.sent;
    await after.stop();
    // The newer version comes back, and a person lets them go on.
    const again = await all.start(newer);
    for (const { id } of begun) await again.runner.resume(id);
    resumed = await Promise.all(begun.map((operation) => all.ended(again.runner, operation)));
    await again.stop();
  });

  it.each(operationKinds)('%s is left alone, waits for a person, and then ends with all its steps', (kind) => {
    expect(ofKind(left, kind)).toMatchObject({ state: 'running', attention: null });
    expect(ofKind(parked, kind)).toMatchObject({ state: 'needs_attention', cancellable: false });
    expect(ofKind(parked, kind).attention).toContain(`version ${sagas[kind].version + 1} of ${kind}`);
    expect(sentByOld.filter((effect) => effect.startsWith(ofKind(parked, kind).id))).toEqual([]);
    expect(ofKind(resumed, kind)).toMatchObject({ state: 'succeeded' });
    expect(ofKind(resumed, kind).steps.at(-1)).toMatchObject({ name: 'isolate-nic', state: 'done' });
  });
});

describe('two gateways of different versions at work on one database', () => {
  it('each take what they know, also from each other, and end all of it', async () => {
    const [a, b] = [await all.start(old), await all.start(newer)];
    const begun: { operation: Operation; version: string }[] = [];
    for (const kind of operationKinds) {
      for (const [runner, version] of [
        [a, 'old'],
        [b, 'new'],
      ] as const) {
        const operation = await beginHeld(runner, kind);
        begun.push({ operation, version });
      }
    }
    // Both lose all their leases at once, and are still there.
    for (const { operation } of begun) await all.expire(operation.id);
    for (const { services } of [a, b]) services.release();
    for (const { operation, version } of begun) {
      const ended = await all.ended(b.runner, operation);
      expect([ended.kind, ended.state, ended.attention]).toEqual([operation.kind, 'succeeded', null]);
      expect([version, names(ended).includes('isolate-nic')]).toEqual([version, version === 'new']);
    }
    const ofNew = new Set(begun.filter(({ version }) => version === 'new').map(({ operation }) => operation.id));
    expect(a.services.sent.filter((effect) => ofNew.has(effect.split('/')[0]!))).toEqual([]);
    await Promise.all([a.stop(), b.stop()]);
  });

  it('judge nobody before they have lived for a minute themselves', async () => {
    const before = await all.start(old);
    const operation = await beginHeld(before, 'disk.create');
    before.kill();
    await all.expire(operation.id);
    const after = await all.start(newOnly);
    await all.kit.database.query(`UPDATE saga_runners SET seen_at = now() - interval '1 hour' WHERE id = $1`, [
      before.runner.id,
    ]);
    await all.ended(after.runner, await all.begin(after.runner, 'disk.create'));
    expect(await after.runner.store.show(operation.id)).toMatchObject({ state: 'running' });
    await all.anHourPasses([after]);
    expect(await all.ended(after.runner, operation)).toMatchObject({ state: 'needs_attention' });
    const told = await all.kit.database.query<{ data: { attention: string } }>(
      'SELECT data FROM m2_outbox WHERE type = $1 AND entity = $2',
      [operationNeedsAttention.type, operation.id],
    );
    expect(told.map(({ data }) => data.attention)).toEqual([expect.stringContaining('No gateway that runs knows')]);
    await after.runner.abandon(operation.id, { by: 'olga', reason: 'no use' });
    await after.stop();
  });

  it('do not run what kept its version and changed its steps', async () => {
    const before = await all.start(old);
    const operation = await beginHeld(before, 'provision');
    before.kill();
    await all.expire(operation.id);
    const { version } = sagas.provision;
    const after = await all.start({ current: { ...sagas, provision: { ...nextVersion().provision, version } } });
    const parked = await all.ended(after.runner, operation);
    expect(parked.attention).toContain(`its steps are not those that version ${version} of provision has here`);
    expect(after.services.sent).toEqual([]);
    await after.runner.abandon(operation.id, { by: 'olga', reason: 'no use' });
    await after.stop();
  });
});

describe('an operation that ends its runners', () => {
  it('is given up after ten of them without progress, and then waits for a person', async () => {
    const before = await all.start();
    const operation = await beginHeld(before, 'disk.create');
    before.kill();
    const after = await all.start();
    await all.kit.database.query(
      `UPDATE operations SET takeovers = 10, lease_until = now() - interval '1 second' WHERE id = $1`,
      [operation.id],
    );
    const parked = await all.ended(after.runner, operation);
    expect(parked.attention).toContain('11 gateways in a row');
    await after.runner.resume(operation.id);
    expect(await all.ended(after.runner, operation)).toMatchObject({ state: 'succeeded' });
    await after.stop();
  });

  it('is not one whose steps get done, nor one whose runners let go of it in good order', async () => {
    const before = await all.start();
    const operation = await beginHeld(before, 'provision');
    const takeovers = async () =>
      (
        await all.kit.database.query<{ takeovers: number }>('SELECT takeovers FROM operations WHERE id = $1', [
          operation.id,
        ])
      )[0]!.takeovers;
    before.kill();
    await all.expire(operation.id);
    const next = await all.start();
    next.services.rule = (effect) => (effect.includes('power-on') ? new Promise(() => {}) : undefined);
    await until('it came to its last step', () => next.services.sent.some((effect) => effect.includes('power-on')));
    expect(await takeovers()).toBe(0);
    next.kill();
    await all.kit.database.query('UPDATE operations SET runner = NULL, lease_until = NULL WHERE id = $1', [
      operation.id,
    ]);
    const last = await all.start();
    expect(await all.ended(last.runner, operation)).toMatchObject({ state: 'succeeded' });
    expect(await takeovers()).toBe(0);
    await last.stop();
  });
});

describe('an operation for later', () => {
  it('waits for its moment on the database’s clock, is seen to wait, and can be cancelled before', async () => {
    const { runner, services, stop } = await all.start();
    // oxlint-disable-next-line no-restricted-properties -- a moment that people choose
    const inAnHour = new Date(Date.now() + 3_600_000);
    const later = await all.begin(runner, 'disk.create', undefined, inAnHour);
    expect(later).toMatchObject({ state: 'running', startedAt: null, notBefore: expect.any(String) as string });
    const never = await all.begin(runner, 'disk.create', undefined, inAnHour);
    await all.ended(runner, await all.begin(runner, 'disk.create'));
    expect(services.sent.filter((effect) => effect.startsWith(later.id))).toEqual([]);
    await runner.cancel(never.id);
    expect(await all.ended(runner, never)).toMatchObject({ state: 'cancelled', cancelRequested: true });
    await all.kit.database.query('UPDATE operations SET not_before = now() WHERE id = $1', [later.id]);
    expect(await all.ended(runner, later)).toMatchObject({ state: 'succeeded' });
    await stop();
  });
});

describe('a project with very many operations', () => {
  it('leaves room for another’s one, and takes turns with it', async () => {
    const { runner, services, stop } = await all.start({}, { concurrency: 4, projectConcurrency: 3 });
    services.hold();
    const [many, other] = all.projects as [string, string];
    const first = await Promise.all(Array.from({ length: 40 }, () => all.begin(runner, 'disk.create', many)));
    const one = await all.begin(runner, 'disk.create', other);
    await until('the one is at work', () => services.sent.some((effect) => effect.startsWith(one.id)));
    const begun = first.filter(({ id }) => services.sent.some((effect) => effect.startsWith(id)));
    expect(begun).toHaveLength(3);
    const second = await all.begin(runner, 'disk.create', other);
    services.release();
    const ends = await Promise.all([...first, one, second].map((operation) => all.ended(runner, operation)));
    expect(ends.map(({ state }) => state)).toEqual(ends.map(() => 'succeeded'));
    const order = [...new Set(services.sent.map((effect) => effect.split('/')[0]))];
    // It came last of all, and did not wait for the thirty-seven before it.
    expect(order.indexOf(second.id)).toBeLessThan(10);
    await stop();
  });
});
