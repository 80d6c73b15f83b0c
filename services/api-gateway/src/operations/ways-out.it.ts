import { M2Error, type Operation } from '@m2/contracts';
import { until } from '@m2/service-kit/testing';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Provisions } from '../provisions/provisions.js';
import { inputs, openRunners, type TestRunner, type TestRunners } from '../testing/runners.js';

const dead = new M2Error('bmc.ignored_command', 'The BMC of node "node-1" agreed, and did nothing');
const why = { by: 'olga', reason: 'The BMC is dead' };

let all: TestRunners;
let one: TestRunner;
/** A deprovision whose node cannot be powered off, and provisions of which the power-on cannot be undone. */
let forward: Operation;
let backward: Operation[];

beforeAll(async () => {
  all = await openRunners();
  one = await all.start();
  one.services.rule = (effect) => (/\/power-o(n|ff)\/(do|undo)$/.test(effect) ? dead : undefined);
  // What looks final is tried for half a minute where there is no way back; all wait for it together.
  const begun = await Promise.all(
    (['deprovision', 'provision', 'provision'] as const).map((kind) => all.begin(one.runner, kind)),
  );
  [forward, ...backward] = (await Promise.all(begun.map((operation) => all.ended(one.runner, operation)))) as [
    Operation,
    ...Operation[],
  ];
});
afterAll(async () => {
  await one?.stop();
  await all?.close();
});

const sentFor = ({ id }: Operation) =>
  one.services.sent.filter((effect) => effect.startsWith(id)).map((effect) => effect.slice(id.length + 1));
/** What was told of decisions, with who and why. */
const told = async ({ id }: Operation) =>
  (
    await all.kit.database.query<{ type: string; data: Record<string, unknown> }>(
      `SELECT type, data FROM m2_outbox WHERE entity = $1 AND data ? 'reason' ORDER BY sequence`,
      [id],
    )
  ).map(({ type, data: { id: _, project: __, ...data } }) => [type, data]);

describe('a step that is stuck on the only way on', () => {
  it('is left out by a person, who was told before what stays behind; who and why is on record', async () => {
    expect(forward).toMatchObject({ state: 'needs_attention', error: { code: 'bmc.ignored_command' } });
    const plan = await one.runner.planSkip(forward.id, 'power-off');
    expect(plan).toEqual({
      operation: forward.id,
      steps: [
        {
          step: 'power-off',
          leaves: 'The node may still be on.',
          unsafe: expect.stringContaining('its export is cut') as string,
        },
      ],
    });
    expect((await one.runner.store.show(forward.id)).state).toBe('needs_attention');
    for (const step of ['remove-export', 'detach-disk', 'release-node', 'no-such-step'])
      await expect(one.runner.skipStep(forward.id, step, why)).rejects.toMatchObject({
        code: 'operation.step_not_skippable',
      });

    const decision = uuidv7();
    for (let times = 0; times < 2; times += 1) await one.runner.skipStep(forward.id, 'power-off', why, decision);
    const ended = await all.ended(one.runner, forward);
    expect(ended).toMatchObject({ state: 'succeeded', attention: null, error: null });
    expect(ended.steps[0]).toMatchObject({ name: 'power-off', state: 'skipped', skipped: why, error: null });
    expect(await told(forward)).toEqual([
      ['gateway.operation.step-skipped', { ...why, kind: 'deprovision', step: 'power-off' }],
    ]);
    await expect(one.runner.skipStep(forward.id, 'power-off', why)).rejects.toMatchObject({
      code: 'operation.not_resumable',
    });
  });

  it('has its node marked broken and its export cut before its disk is free', () => {
    const sent = sentFor(forward);
    const order = ['power-off/skip', 'remove-export/do', 'detach-disk/do', 'release-node/do'];
    expect(sent.filter((effect) => order.includes(effect))).toEqual(order);
  });
});

describe('a step that is stuck on the way back', () => {
  it('is left out, and what it stood on is taken back', async () => {
    const [operation] = backward as [Operation];
    expect(operation).toMatchObject({ state: 'needs_attention', cancellable: false });
    await expect(one.runner.planSkip(operation.id, 'export-disk')).rejects.toMatchObject({
      code: 'operation.step_not_skippable',
    });
    await one.runner.skipStep(operation.id, 'power-on', why);
    const ended = await all.ended(one.runner, operation);
    expect(ended).toMatchObject({ state: 'failed', error: { code: 'bmc.ignored_command' } });
    expect(ended.steps.map(({ name, state }) => [name, state])).toContainEqual(['power-on', 'skipped']);
    expect(ended.steps.map(({ name, state }) => [name, state])).toContainEqual(['export-disk', 'undone']);
    expect(sentFor(operation)).toContain('power-on/skip');
  });
});

describe('an operation that waits for a service that is not there', () => {
  let two: TestRunner;
  let three: TestRunner;
  beforeAll(async () => {
    [two, three] = [await all.start(), await all.start()];
    const away = new M2Error('service.unavailable', 'The hil service does not answer');
    for (const { services } of [two, three])
      services.rule = (effect) => {
        if (/\/attach-network\/undo$|\/power-off\/do$/.test(effect)) return away;
        return effect.endsWith('/power-on/do') ? new M2Error('bmc.unreachable', 'No answer') : undefined;
      };
  });
  afterAll(async () => {
    await two?.stop();
    await three?.stop();
  });
  const waiting = async (kind: 'provision' | 'deprovision', name: string) => {
    const { id } = await all.begin(two.runner, kind);
    return until('it says what it waits for', async () => {
      const now = await two.runner.store.show(id);
      const step = now.steps.find((one) => one.name === name)!;
      return step.progress?.text === 'The hil service does not answer' ? now : undefined;
    });
  };

  it('goes on without the step, on the way back and on the only way on; in whatever replica a person decides', async () => {
    for (const decided of [two, three]) {
      const back = await waiting('provision', 'attach-network');
      expect(back.state).toBe('undoing');
      await expect(decided.runner.skipStep(back.id, 'reserve-node', why)).rejects.toMatchObject({
        code: 'operation.step_not_skippable',
      });
      await decided.runner.skipStep(back.id, 'attach-network', why);
      const ended = await all.ended(two.runner, back);
      expect(ended.state).toBe('failed');
      expect(ended.steps.map(({ name, state }) => [name, state])).toContainEqual(['attach-network', 'skipped']);
      expect(ended.steps.map(({ name, state }) => [name, state])).toContainEqual(['reserve-node', 'undone']);
      expect(ended.steps.map(({ progress }) => progress)).not.toContainEqual(expect.objectContaining({ done: 0 }));
    }
    const on = await waiting('deprovision', 'power-off');
    await two.runner.skipStep(on.id, 'power-off', why);
    expect((await all.ended(two.runner, on)).state).toBe('succeeded');
  });

  it('is abandoned, and nothing more is sent when the service is back', async () => {
    const other = await waiting('provision', 'attach-network');
    const operation = await waiting('provision', 'attach-network');
    expect((await two.runner.planAbandon(operation.id)).steps.map(({ step }) => step)).toContain('attach-network');
    await two.runner.abandon(operation.id, why);
    const [before, rule] = [two.services.sent.length, two.services.rule];
    two.services.rule = () => undefined;
    // It pauses longer, because it has waited longer.
    await all.ended(two.runner, other);
    two.services.rule = rule;
    expect(two.services.sent.slice(before).filter((effect) => effect.startsWith(operation.id))).toEqual([]);
    expect((await two.runner.store.show(operation.id)).state).toBe('abandoned');
  });
});

it('each turn of an operation has an event of its own, and its end comes once', async () => {
  const typesOf = async ({ id }: { id: string }) =>
    (
      await all.kit.database.query<{ type: string }>('SELECT type FROM m2_outbox WHERE entity = $1 ORDER BY sequence', [
        id,
      ])
    ).map(({ type }) => type.replace('gateway.operation.', ''));
  const stuck = ['started', 'attention-needed'];
  expect(await typesOf(forward)).toEqual([...stuck, 'step-skipped', 'resumed', 'ended']);
  const [, operation] = backward as [Operation, Operation];
  expect(await typesOf(operation)).toEqual(stuck);
  await one.runner.resume(operation.id);
  await all.ended(one.runner, operation);
  expect(await typesOf(operation)).toEqual([...stuck, 'resumed', 'attention-needed']);
});

describe('an operation that is abandoned', () => {
  const provision = async () => {
    const [row] = await all.kit.database.query<{ id: string; state: string; ended: boolean }>(
      'SELECT id, state, ended_at IS NOT NULL AS ended FROM provisions',
    );
    return row!;
  };
  beforeAll(async () => {
    const [operation, id] = [backward[1]!, inputs.provision.provision];
    await all.kit.database.query(
      `INSERT INTO provisions (id, project, node, node_name, nic, network, disk, disk_name, export, boot_config, state, operation)
       VALUES ($1, $2, $1, 'node-1', 'eth0', 'flat', $1, 'web-1', $1, $1, 'provisioning', $3)`,
      [id, operation.project, operation.id],
    );
  });

  it('ends as it is, when it was said what is left, and by whom and why', async () => {
    const operation = backward[1]!;
    const { steps } = await one.runner.planAbandon(operation.id);
    const left = ['reserve-node', 'clone-disk', 'attach-disk', 'export-disk', 'attach-network', 'arm-boot', 'power-on'];
    expect(steps.map(({ step }) => step)).toEqual(left);
    // Nothing is cut, and no node is marked broken: only an operation that goes on without the step does that.
    expect(steps.at(-1)).toMatchObject({ unsafe: 'It may write to its disk.' });
    expect(JSON.stringify(steps)).not.toMatch(/is cut|marked broken/);
    expect(steps.every(({ leaves }) => leaves.length > 0)).toBe(true);
    const [before, decision] = [one.services.sent.length, uuidv7()];
    for (let times = 0; times < 2; times += 1) await one.runner.abandon(operation.id, why, decision);
    const ended = await one.runner.store.show(operation.id);
    expect(ended).toMatchObject({ state: 'abandoned', endedAt: expect.any(String) as string });
    expect(ended.attention).toBe(`Abandoned by olga: The BMC is dead. Left as they are: ${left.join(', ')}`);
    expect(one.services.sent).toHaveLength(before);
    expect(await told(operation)).toEqual([['gateway.operation.abandoned', { ...why, kind: 'provision', left }]]);
    // Its provision goes on holding what it has, and may be deprovisioned when that can be done.
    expect(await provision()).toMatchObject({ state: 'failed', ended: false });
    const { id } = await provision();
    await new Provisions(all.kit).beginEnd(all.kit.database, id, operation.id);
    expect(await provision()).toMatchObject({ state: 'deprovisioning', ended: false });
    for (const again of [() => one.runner.abandon(operation.id, why), () => one.runner.resume(operation.id)])
      await expect(again()).rejects.toMatchObject({ code: 'operation.not_resumable' });
  });

  it('is one that waits for a person, and no other', async () => {
    const running = await all.begin(one.runner, 'disk.create');
    await expect(one.runner.planAbandon(running.id)).rejects.toMatchObject({ code: 'operation.not_resumable' });
    await expect(one.runner.planAbandon(all.projects[0]!)).rejects.toMatchObject({ code: 'operation.not_found' });
  });
});
