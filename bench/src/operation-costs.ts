import type { M2Client } from '@m2/cli';
import { cpuOf } from './cpu.js';
import { round } from './numbers.js';
import { allEnded, deprovision, provision } from './provisions.js';
import type { BenchNode } from './rack.js';

/** Milliseconds of processor time of one operation, by its name; the control plane's and the drivers'. */
export type OperationCosts = Record<string, number>;

const rounds = 40;
const params = { project: 'demo' };

/** Does each operation some forty times, one after the other, and reads what the processes of the installation used. */
export async function operationCosts(client: M2Client, directory: string, node: BenchNode): Promise<OperationCosts> {
  const costs: OperationCosts = {};
  const measure = async (name: string, work: (n: number) => Promise<unknown>) => {
    await work(-1);
    const before = cpuOf(directory);
    for (let n = 0; n < rounds; n++) await work(n);
    const after = cpuOf(directory);
    costs[name] = round((after.controlPlane + after.drivers - before.controlPlane - before.drivers) / rounds);
  };
  const done = async (operation: Promise<unknown>) => {
    await operation;
    await allEnded(client);
  };
  const disk = (n: number) => ({ project: 'demo', disk: `cost-${n + 1}` });
  await measure('disk create', (n) =>
    done(client.call('diskCreate', { params, body: { name: disk(n).disk, image: 'lab' } })),
  );
  await measure('disk tag', (n) => done(client.call('diskTag', { params: disk(n), body: { name: 'a' } })));
  await measure('disk show', (n) => client.call('diskShow', { params: disk(n) }));
  await measure('disk untag', (n) => done(client.call('diskUntag', { params: { ...disk(n), tag: 'a' } })));
  await measure('disk delete', (n) => done(client.call('diskDelete', { params: disk(n), query: { purge: true } })));
  await measure('disk list', () => client.call('diskList', { params, query: { limit: 20 } }));
  await measure('node list', () => client.call('nodeList', { query: { limit: 20 } }));
  await measure('operation list, by state', () =>
    client.call('operationList', { query: { state: 'needs_attention', limit: 20 } }),
  );
  await measure('operation list, by kind', () =>
    client.call('operationList', { query: { kind: 'image.export', limit: 20 } }),
  );
  await measure('event list, by type', () =>
    client.call('eventList', { query: { type: 'boot.config.refused', limit: 20 } }),
  );
  await measure('provision and deprovision', async () => {
    const { operations } = await provision(client, [node]);
    await deprovision(client, operations);
  });
  return costs;
}
