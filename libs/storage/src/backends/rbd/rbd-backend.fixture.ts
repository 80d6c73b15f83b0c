import type { TestCeph } from '@m2/lab/testing';
import { RbdClient } from '@m2/rbd';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ForeignVolumes, OpenDisk } from '../../storage.conformance.js';
import type { BackingStore } from '../../storage.port.js';
import { RbdBackend } from './rbd-backend.js';
import type { RbdBackendOptions } from './rbd-backend.js';

const run = promisify(execFile);

/** A Ceph cluster for a test, and access to it as several users. */
export class TestCluster<Ceph extends TestCeph = TestCeph> {
  /** Does what the service's user may do, beside the backend. */
  readonly rbd: RbdClient;
  private readonly tenants = new Map<string, Promise<RbdClient>>();
  private readonly backends: RbdBackend[] = [];
  private count = 0;

  private constructor(
    private readonly directory: string,
    readonly ceph: Ceph,
  ) {
    this.rbd = RbdClient.open({ conf: ceph.conf, user: ceph.user });
  }

  static async open<Ceph extends TestCeph>(start: () => Promise<Ceph>): Promise<TestCluster<Ceph>> {
    const directory = await mkdtemp(join(tmpdir(), 'm2-rbd-'));
    return new TestCluster(directory, await start());
  }

  async backend(options?: RbdBackendOptions): Promise<RbdBackend> {
    const { conf, user, imagePool, diskPool } = this.ceph;
    const backend = await RbdBackend.open(options ?? { conf, user, imagePool, diskPool });
    this.backends.push(backend);
    return backend;
  }

  /** Sends SIGKILL to the processes that talk to the cluster for the backends, whatever they are doing. */
  async killChildren(): Promise<void> {
    const children = await readFile(`/proc/self/task/${process.pid}/children`, 'utf8');
    const tenants = await Promise.all(this.tenants.values());
    const others = new Set([this.rbd, ...tenants].map(({ pid }) => pid));
    for (const pid of children.trim().split(' ').map(Number)) {
      const isClient = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).includes(
        'rbd/src/child/main.ts',
      );
      if (isClient && !others.has(pid)) process.kill(pid, 'SIGKILL');
    }
  }

  /** Access to the cluster as a project's user. The key goes from the cluster to a keyring, as a target gets it. */
  tenant(user: string): Promise<RbdClient> {
    let tenant = this.tenants.get(user);
    if (!tenant) this.tenants.set(user, (tenant = this.openTenant(user)));
    return tenant;
  }

  /** Opens a disk as a target does. */
  async open(store: BackingStore): Promise<OpenDisk> {
    if (store.type !== 'rbd') throw new Error(`not RBD: ${JSON.stringify(store)}`);
    const { pool, namespace, image } = store;
    const handle = await (await this.tenant(store.user)).openImage({ pool, namespace, image });
    return {
      sizeBytes: handle.sizeBytes,
      read: (offset, length) => handle.read(offset, length),
      write: async (offset, bytes) => {
        await handle.write(offset, bytes);
        await handle.flush();
      },
      close: () => handle.close(),
    };
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** Volumes that other people create and read with Ceph's own tool. */
  get foreign(): ForeignVolumes {
    const freeName = () => `${this.ceph.imagePool}/theirs-${(this.count += 1)}`;
    return {
      freeName,
      make: async (rawFile) => {
        const name = freeName();
        await this.tool('import', '--no-progress', rawFile, name);
        return name;
      },
      exists: async (name) => (await this.tool('ls', this.ceph.imagePool)).split('\n').includes(name.split('/')[1]!),
      read: async (name) => {
        const file = this.path(`export-${(this.count += 1)}`);
        await this.tool('export', '--no-progress', name, file);
        const bytes = await readFile(file);
        await rm(file);
        return bytes;
      },
    };
  }

  async tool(...args: string[]): Promise<string> {
    return (await run('rbd', ['--conf', this.ceph.conf, '--id', this.ceph.user, ...args])).stdout;
  }

  /** Changes objects of disks as the administrator, to make what a killed client leaves. */
  async rados(namespace: string, ...args: string[]): Promise<void> {
    const { adminConf, diskPool } = this.ceph;
    await run('rados', ['--conf', adminConf, '--pool', diskPool, '--namespace', namespace, ...args]);
  }

  async close(): Promise<void> {
    const tenants = await Promise.allSettled(this.tenants.values());
    const clients = tenants.flatMap((tenant) => (tenant.status === 'fulfilled' ? [tenant.value] : []));
    await Promise.all([...this.backends, ...clients, this.rbd].map((it) => it.close()));
    await this.ceph.stop();
    await rm(this.directory, { recursive: true, force: true });
  }

  private async openTenant(user: string): Promise<RbdClient> {
    const keyring = this.path(`${user}.keyring`);
    await writeFile(keyring, await this.ceph.ceph('auth', 'get', `client.${user}`), { mode: 0o600 });
    const conf = this.path(`${user}.conf`);
    const common = (await readFile(this.ceph.conf, 'utf8')).split('[client')[0]!;
    await writeFile(conf, `${common}[client.${user}]\nkeyring = ${keyring}\n`);
    return RbdClient.open({ conf, user });
  }
}
