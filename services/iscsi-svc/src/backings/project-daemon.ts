import {
  addDiskExport,
  exportedDisks,
  isAlive,
  mountsIn,
  type ProcessIdentity,
  type Qmp,
  removeDiskExport,
  StorageDaemon,
  unmountLazily,
} from '@m2/storage-daemon';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CephCluster } from './ceph-cluster.js';
import { type DiskRecord, DiskRecords } from './disk-records.js';
import { daemonConf, diskName, type RbdBacking, rbdBlockdev } from './rbd-disk.js';

/** A connection to the daemon, and the disks that it shows. */
interface Session {
  qmp: Qmp;
  process: ProcessIdentity;
  shown: Set<string>;
  /** A change failed in the middle: what is shown has to be queried. */
  unsure: boolean;
}

const keySecret = 'key';

/**
 * The storage daemon of one project: shows RBD images as files, and ends with the last of them. One per project, so that none of its
 * threads ever holds the key of another project, and a hang or a crash affects one project only.
 *
 * It survives this service. Its directory holds, beside the files of `StorageDaemon`, `project`, `ceph.conf`, and the `DiskRecords`. Calls
 * must not overlap.
 */
export class ProjectDaemon {
  private readonly daemon: StorageDaemon;
  private readonly records: DiskRecords;
  private session: Session | undefined;

  /** `onDeath`: the daemon died while it showed disks, and not on request. */
  constructor(
    private readonly directory: string,
    private readonly project: string,
    private readonly cluster: CephCluster,
    private readonly onDeath: () => void,
  ) {
    this.daemon = new StorageDaemon(directory);
    this.records = new DiskRecords(directory);
  }

  /** The project that a directory was made for; undefined when its creation was interrupted, and it holds nothing. */
  static async projectOf(directory: string): Promise<string | undefined> {
    return readFile(join(directory, 'project'), 'utf8').catch(() => undefined);
  }

  /** All disks that were opened and not closed, shown at this moment or not. */
  async disks(): Promise<RbdBacking[]> {
    return (await this.records.all()).map(({ backing }) => backing);
  }

  /** Takes over the daemon from before a restart, so that its death is noticed. */
  async adopt(): Promise<void> {
    if (this.session) return;
    if ((await this.disks()).length > 0) await this.connected('running');
    else if (existsSync(this.directory)) await this.end();
  }

  /** Shows the image as a file. One that is shown already stays as it is, with its open file descriptors. */
  async ensureOpen(backing: RbdBacking): Promise<void> {
    // Checked before the daemon is told anything: with the cluster down it would wait, and with it all of its other disks.
    const before = await this.watchersUnlessShown(backing);
    if (!before) return;
    const session = await this.connected('new');
    const [disk, mountpoint] = [diskName(backing), this.records.path(backing)];
    await this.beSure(session);
    if (session.shown.has(disk)) await this.remove(session, backing); // somebody unmounted it by hand
    await this.fenceDeadClient(backing);
    const record: DiskRecord = { backing };
    await this.records.begin(record);
    const conf = join(this.directory, 'ceph.conf');
    await writeFile(conf, daemonConf(await readFile(this.cluster.conf, 'utf8'), backing.user), { mode: 0o600 });
    const key = await this.cluster.key(backing.user);
    const { size: others } = session.shown;
    session.unsure = true;
    await withKey(session.qmp, key, () =>
      addDiskExport(
        session.qmp,
        {
          disk,
          mountpoint,
          blockdev: rbdBlockdev(backing, conf, keySecret),
          // Before the file exists: whoever opens the file makes the client take the image's lock.
          onOpened: async () => {
            const client = newOne(before, await this.cluster.watchers(backing));
            if (client) await this.records.write({ ...record, client });
          },
        },
        others,
      ),
    );
    session.unsure = false;
    session.shown.add(disk);
  }

  /** Closes the image, so that it can be removed. The daemon ends with its last image. */
  async ensureClosed(backing: RbdBacking): Promise<void> {
    if (await this.records.get(backing)) {
      const session = await this.connected('running');
      if (session) await this.beSure(session);
      if (session?.shown.has(diskName(backing))) await this.remove(session, backing);
      await this.fenceDeadClient(backing);
      await this.records.remove(backing);
    }
    if ((await this.records.all()).length === 0) await this.end();
  }

  /** Disconnects from the daemon, which goes on. */
  async close(): Promise<void> {
    const { session } = this;
    this.session = undefined;
    session?.qmp.close();
    await session?.qmp.closed;
  }

  /** Ends the daemon and removes all of it: for the end of an installation or of a test. */
  async end(): Promise<void> {
    const { session } = this;
    this.session = undefined;
    await this.daemon.quit(session?.qmp);
    await unmountLazily(await mountsIn(this.records.mounts));
    await rm(this.directory, { recursive: true, force: true });
  }

  /** Returns undefined when no daemon runs and none is to be started. */
  private async connected(which: 'new'): Promise<Session>;
  private async connected(which: 'running'): Promise<Session | undefined>;
  private async connected(which: 'new' | 'running'): Promise<Session | undefined> {
    if (this.session && isAlive(this.session.process)) return this.session;
    // It died a moment ago, and the event about its connection comes soon.
    await this.session?.qmp.closed;
    const adopted = await this.daemon.adopt(() => this.clusterAnswers());
    if (!adopted) await unmountLazily(await mountsIn(this.records.mounts));
    const qmp = adopted ?? (which === 'new' ? await this.start() : undefined);
    if (!qmp) return undefined;
    const process = (await this.daemon.recorded())!;
    const session = { qmp, process, shown: new Set<string>(), unsure: adopted !== undefined };
    this.session = session;
    void qmp.closed.then(() => {
      if (this.session !== session) return;
      this.session = undefined;
      this.onDeath();
    });
    return session;
  }

  private async start(): Promise<Qmp> {
    await mkdir(this.directory, { recursive: true, mode: 0o700 });
    await writeFile(join(this.directory, 'project'), this.project, { mode: 0o600 });
    return this.daemon.start();
  }

  /** A daemon may be silent because its cluster is: then its disks come back with the cluster, and a kill would lose them. */
  private async clusterAnswers(): Promise<void> {
    const [disk] = await this.disks();
    if (disk) await this.cluster.answers(disk);
  }

  private async beSure(session: Session): Promise<void> {
    if (!session.unsure) return;
    session.shown = await exportedDisks(session.qmp);
    session.unsure = false;
  }

  /** The clients that have the image open now; undefined when it is shown already, which takes no request to the cluster. */
  private async watchersUnlessShown(backing: RbdBacking): Promise<string[] | undefined> {
    const session = await this.connected('running');
    if (session) await this.beSure(session);
    const mounted = (await mountsIn(this.records.mounts)).includes(this.records.path(backing));
    if (session?.shown.has(diskName(backing)) && mounted) return undefined;
    return this.cluster.watchers(backing);
  }

  private async remove(session: Session, backing: RbdBacking): Promise<void> {
    session.unsure = true;
    await removeDiskExport(session.qmp, diskName(backing));
    session.unsure = false;
    session.shown.delete(diskName(backing));
    await this.records.write({ backing });
  }

  /**
   * Blocklists a recorded client of ours whose daemon does not show its image any more: the daemon died. Its lock on the image stays until
   * the cluster misses it, half a minute in which the node's writes wait and the volume cannot be removed; and its writes may still be in
   * flight. Only clients of our own daemons are recorded. Anybody else who holds the lock (image-svc, another host) releases it on request,
   * and must not be fenced.
   */
  private async fenceDeadClient(backing: RbdBacking): Promise<void> {
    const record = await this.records.get(backing);
    if (!record?.client) return;
    await this.cluster.fence(record.client);
    await this.records.write({ backing });
  }
}

/** The key is in the daemon while an image is opened, and nowhere else: not on disk, not in arguments. */
async function withKey(qmp: Qmp, key: string, work: () => Promise<void>): Promise<void> {
  const forget = () => qmp.execute('object-del', { id: keySecret }).catch(() => {});
  await forget(); // left by a service that was killed at this point
  await qmp.execute('object-add', { 'qom-type': 'secret', id: keySecret, format: 'base64', data: key });
  try {
    await work();
  } finally {
    await forget();
  }
}

/**
 * The client that is new, if it is exactly one. When somebody else opened the image at the same moment, nobody can tell, and nobody is
 * fenced later.
 */
function newOne(before: string[], after: string[]): string | undefined {
  const came = after.filter((address) => !before.includes(address));
  return came.length === 1 ? came[0] : undefined;
}
