import type { BenchNode } from './rack.js';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { IpmiDriver } from '@m2/hil-adapter/drivers';
import { FileBackend } from '@m2/storage/drivers';
import { TgtDriver } from '@m2/iscsi-svc/drivers';

/** The drivers know a project by its identifier, and nothing of it but that. */
const project = '00000000-0000-7000-8000-000000000000';

export interface BareTimes {
  /** Milliseconds of each operation, one entry for each node. */
  clone: number[];
  export: number[];
  power: number[];
  /** From the start of a node's first operation to the end of its last; clone and export, then power, as a provision has them. */
  total: number[];
  /** From the first operation of all to the last. */
  wallMs: number;
}

/** The drivers without a control plane: what a provision cannot be faster than. */
export class BareOperations {
  private constructor(
    private readonly storage: FileBackend,
    private readonly targets: TgtDriver,
    private readonly power: IpmiDriver,
  ) {}

  static async open(dir: string, portBase: number, image: string): Promise<BareOperations> {
    const storage = await FileBackend.open({ directory: join(dir, 'bare-storage') });
    const targets = await TgtDriver.open(
      { stateDir: join(dir, 'bare-targets'), addresses: ['127.0.0.1'], portBase },
      async () => false,
    );
    await storage.ensureGolden('bareimg0', { path: image, format: 'raw' });
    return new BareOperations(storage, targets, new IpmiDriver());
  }

  /** All nodes at once, as they are provisioned. */
  async run(nodes: BenchNode[]): Promise<BareTimes> {
    const times: BareTimes = { clone: [], export: [], power: [], total: [], wallMs: 0 };
    const started = performance.now();
    await Promise.all(nodes.map((node, index) => this.one(node, index + 1, times)));
    times.wallMs = performance.now() - started;
    await Promise.all(nodes.map((node, index) => this.undo(node, index + 1)));
    return times;
  }

  private async one(node: BenchNode, n: number, times: BareTimes): Promise<void> {
    const started = performance.now();
    const volume = `bareimg${n}`;
    const backing = await timed(times.clone, async () => {
      await this.storage.ensureClone({ golden: 'bareimg0' }, { project, name: volume });
      const store = await this.storage.ensureAttached({ project, name: volume });
      if (store.type !== 'file') throw new Error('the file storage attaches files');
      return store;
    });
    await timed(times.export, () =>
      this.targets.ensureExport({
        pool: 'bare',
        iqn: `iqn.2018-10.io.m2:${volume}`,
        backing,
        initiator: `iqn.2018-10.io.m2:node.${n}`,
        chap: { user: `bare-${n}`, secret: randomBytes(12).toString('hex') },
      }),
    );
    await timed(times.power, () => this.power.bootFromNetwork(bmcOf(node), { deadlineMs: 120_000, firmware: 'bios' }));
    times.total.push(performance.now() - started);
  }

  private async undo(node: BenchNode, n: number): Promise<void> {
    await this.power.ensureOff(bmcOf(node), { deadlineMs: 120_000 });
    await this.targets.ensureNoExport('bare', `iqn.2018-10.io.m2:bareimg${n}`);
    const disk = { project, name: `bareimg${n}` };
    await this.storage.ensureDetached(disk);
    await this.storage.ensureNoDisk(disk);
  }

  async close(): Promise<void> {
    await this.power.close();
    await this.targets.stopAll();
    await this.storage.stop();
  }
}

const bmcOf = ({ bmc }: BenchNode) => ({
  driver: 'ipmi' as const,
  address: bmc.address,
  port: bmc.port,
  user: bmc.user,
  password: bmc.password,
  cipherSuites: [3],
});

async function timed<T>(times: number[], work: () => Promise<T>): Promise<T> {
  const started = performance.now();
  const result = await work();
  times.push(performance.now() - started);
  return result;
}
