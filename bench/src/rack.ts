import { type M2Client, type Stage, startStage } from '@m2/cli';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** A node without a machine: its BMC is all there is of it. */
export interface BenchNode {
  name: string;
  bmc: { address: string; port: number; user: string; password: string };
}

export interface Rack {
  stage: Stage;
  nodes: BenchNode[];
  close(): Promise<void>;
}

const account = { user: 'admin', password: 'bench-secret' };

/** M2 with nodes whose BMCs are `ipmi_sim`, one process each, or all in one cheap process (`responder`). */
export async function startRack(
  count: number,
  bmc: 'ipmi_sim' | 'responder',
  report: (line: string) => void,
): Promise<Rack> {
  const names = Array.from({ length: count }, (_, index) => `bench-${index + 1}`);
  if (bmc === 'ipmi_sim') {
    const requests = names.map((name) => ({ name, firmware: 'none' as const }));
    const stage = await startStage({ nodes: requests, network: 'user', report });
    return { stage, nodes: stage.lab.nodes, close: () => stage.close() };
  }
  const stage = await startStage({ nodes: [], network: 'user', report });
  // The directory among its arguments tells `cpuOf` that it belongs to the installation.
  const child = fork(fileURLToPath(new URL('bmc/responder-process.js', import.meta.url)), [stage.dir]);
  try {
    child.send({ ...account, count });
    const [ports] = (await once(child, 'message')) as [number[]];
    const nodes = names.map((name, at) => ({ name, bmc: { address: '127.0.0.1', port: ports[at]!, ...account } }));
    for (const [at, node] of nodes.entries()) await register(stage.client, node, at);
    return {
      stage,
      nodes,
      close: async () => {
        await stage.close();
        child.disconnect();
      },
    };
  } catch (error) {
    await stage.close();
    child.kill();
    throw error;
  }
}

async function register(client: M2Client, { name, bmc }: BenchNode, at: number): Promise<void> {
  const hex = at.toString(16).padStart(4, '0');
  const nics = [{ label: 'eth0', mac: `52:54:00:be:${hex.slice(0, 2)}:${hex.slice(2)}` }];
  await client.call('nodeRegister', { body: { name, firmware: 'bios', nics, bmc: { ...bmc, cipherSuites: [3] } } });
}
