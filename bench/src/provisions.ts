import type { M2Client } from '@m2/cli';
import type { Operation } from '@m2/contracts';
import { setTimeout as pause } from 'node:timers/promises';
import type { BenchNode } from './rack.js';

const params = { project: 'demo' };

/** Provisions these nodes at once, up to power-on. Returns each operation as it ended, and milliseconds to each answer. */
export async function provision(
  client: M2Client,
  nodes: BenchNode[],
): Promise<{ operations: Operation[]; accepted: number[] }> {
  const { ids, accepted } = await provisionUnseen(client, nodes);
  return { operations: await outcomes(client, ids), accepted };
}

/** The same without a look at what came of it: that is no part of the work, and costs. See `outcomes`. */
export async function provisionUnseen(
  client: M2Client,
  nodes: BenchNode[],
): Promise<{ ids: string[]; accepted: number[] }> {
  const accepted: number[] = [];
  const asked = await Promise.all(
    nodes.map(async ({ name }) => {
      const started = performance.now();
      const body = { node: name, image: 'lab', waitFor: 'ready' as const };
      const operation = await client.call('provisionCreate', { params, body });
      accepted.push(performance.now() - started);
      return operation;
    }),
  );
  await allEnded(client, nodes.length);
  return { ids: asked.map(({ id }) => id), accepted };
}

/** Operations that have ended. Throws when one of them did not succeed. */
export async function outcomes(client: M2Client, ids: string[]): Promise<Operation[]> {
  const operations = await Promise.all(ids.map((id) => client.call('operationShow', { params: { id } })));
  const failed = operations.find(({ state }) => state !== 'succeeded');
  if (failed)
    throw new Error(`A provision ended ${failed.state}: ${JSON.stringify(failed.error)} ${failed.attention ?? ''}`);
  return operations;
}

export async function deprovision(client: M2Client, operations: Operation[]): Promise<void> {
  await Promise.all(
    operations.map(({ about }) =>
      client.call('provisionDelete', { params: { ...params, id: about['provision']! }, query: { disk: 'delete' } }),
    ),
  );
  await allEnded(client, operations.length);
}

/** Watching hundreds of operations one by one would itself be a load, and so would be a look at them every moment. */
export async function allEnded(client: M2Client, count = 1): Promise<void> {
  for (;;) {
    const { items } = await client.call('operationList', { query: { state: 'running', limit: 1 } });
    if (items.length === 0) return;
    await pause(count < 24 ? 100 : 500);
  }
}
