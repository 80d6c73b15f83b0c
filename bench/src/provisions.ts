import type { M2Client } from '@m2/cli';
import type { Operation } from '@m2/contracts';
import { setTimeout as pause } from 'node:timers/promises';
import type { BenchNode } from './rack.js';

const params = { project: 'demo' };

/** Provisions these nodes at once, up to power-on. Returns each operation, and milliseconds to each answer. */
export async function provision(
  client: M2Client,
  nodes: BenchNode[],
): Promise<{ operations: Operation[]; accepted: number[] }> {
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
  await allEnded(client);
  const operations = await Promise.all(asked.map(({ id }) => client.call('operationShow', { params: { id } })));
  const failed = operations.find(({ state }) => state !== 'succeeded');
  if (failed)
    throw new Error(`A provision ended ${failed.state}: ${JSON.stringify(failed.error)} ${failed.attention ?? ''}`);
  return { operations, accepted };
}

export async function deprovision(client: M2Client, operations: Operation[]): Promise<void> {
  await Promise.all(
    operations.map(({ about }) =>
      client.call('provisionDelete', { params: { ...params, id: about['provision']! }, query: { disk: 'delete' } }),
    ),
  );
  await allEnded(client);
}

/** Watching hundreds of operations one by one would itself be a load. */
export async function allEnded(client: M2Client): Promise<void> {
  for (;;) {
    const { items } = await client.call('operationList', { query: { state: 'running', limit: 1 } });
    if (items.length === 0) return;
    await pause(100);
  }
}
