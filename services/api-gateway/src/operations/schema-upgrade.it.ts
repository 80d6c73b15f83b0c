import { Database } from '@m2/service-kit';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Gateway1795000000001 } from '../migrations.js';
import { openRunners, type TestRunners } from '../testing/runners.js';

const id = uuidv7();
const operations = { running: uuidv7(), undoing: uuidv7(), stuck: uuidv7(), older: uuidv7() };

/** What the first release left: operations in flight, whose steps have names and no graph. */
async function firstRelease(url: string): Promise<void> {
  const database = await Database.open({
    url,
    poolSize: 2,
    applicationName: 'test',
    migrations: [Gateway1795000000001],
    entities: [],
  });
  await database.query(`INSERT INTO projects (id, name) VALUES ($1, 'old')`, [id]);
  const add = async (operation: string, kind: string, state: string, steps: [name: string, state: string][]) => {
    await database.query(
      `INSERT INTO operations (id, project, kind, state, input, about, created_by, token, fence, runner, lease_until, undoing, error)
       VALUES ($1, $2, $3, $4, '{"disk": "x"}', '{}', 'test', $2, 3, 'gone', now(), $5, $6)`,
      [
        operation,
        id,
        kind,
        state,
        state === 'undoing',
        state === 'undoing' ? '{"code":"tag.exists","detail":"x"}' : null,
      ],
    );
    for (const [at, [name, stepState]] of steps.entries())
      await database.query('INSERT INTO operation_steps (operation, position, name, state) VALUES ($1, $2, $3, $4)', [
        operation,
        at + 1,
        name,
        stepState,
      ]);
  };
  await add(operations.running, 'deprovision', 'running', [
    ['power-off', 'done'],
    ['disarm-boot', 'running'],
    ['remove-export', 'running'],
    ['detach-disk', 'waiting'],
    ['delete-disk', 'skipped'],
    ['detach-network', 'waiting'],
    ['release-node', 'waiting'],
  ]);
  await add(operations.undoing, 'disk.tag', 'undoing', [['tag-disk', 'unknown']]);
  await add(operations.stuck, 'disk.tag', 'needs_attention', [['tag-disk', 'running']]);
  // Begun before a step of its saga was added.
  await add(operations.older, 'deprovision', 'running', [
    ['power-off', 'done'],
    ['remove-export', 'running'],
  ]);
  await database.close();
}

let all: TestRunners;
beforeAll(async () => {
  all = await openRunners(firstRelease);
});
afterAll(() => all?.close());

it('operations in flight from before versions were stored go on, and none loses a step', async () => {
  const { runner, services, stop } = await all.start();
  expect(await all.ended(runner, { id: operations.running })).toMatchObject({ state: 'succeeded' });
  const sent = services.sent.filter((effect) => effect.startsWith(operations.running));
  expect(sent.map((effect) => effect.split('/')[1]).toSorted()).toEqual([
    'detach-disk',
    'detach-network',
    'disarm-boot',
    'release-node',
    'remove-export',
  ]);
  expect(await all.ended(runner, { id: operations.undoing })).toMatchObject({
    state: 'failed',
    error: { code: 'tag.exists' },
  });
  await runner.resume(operations.stuck);
  expect(await all.ended(runner, { id: operations.stuck })).toMatchObject({ state: 'succeeded' });
  await stop();
});

it('one that was begun before a step was added waits for a person, and is not taken again and again', async () => {
  const { runner, services, stop } = await all.start();
  const parked = await all.ended(runner, { id: operations.older });
  expect(parked).toMatchObject({ state: 'needs_attention' });
  expect(parked.attention).toContain('its steps are not those that version 1 of deprovision has here');
  expect(services.sent.filter((effect) => effect.startsWith(operations.older))).toEqual([]);
  await runner.abandon(operations.older, { by: 'olga', reason: 'from another time' });
  expect(await runner.store.show(operations.older)).toMatchObject({ state: 'abandoned' });
  await stop();
});
