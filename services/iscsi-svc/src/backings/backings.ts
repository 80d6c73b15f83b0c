import { RbdError } from '@m2/rbd';
import { StorageDaemonError } from '@m2/storage-daemon';
import { createHash } from 'node:crypto';
import { mkdir, readdir, realpath, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { TargetError } from '../targets/target.port.js';
import { Locks } from '@m2/locks';
import { CephCluster } from './ceph-cluster.js';
import { DiskRecords } from './disk-records.js';
import { ProjectDaemon } from './project-daemon.js';
import { type BackingStore, type RbdBacking, formatBacking } from './rbd-disk.js';

export interface BackingsConfig {
  /** Holds the daemons' sockets, records and mount points; at most about 70 bytes long (UNIX socket paths). */
  directory: string;
  /** Absent: disks are files only. */
  ceph?: { conf: string; user: string };
}

/** An image that `ensureFile` shows as a file. */
export interface ShownImage {
  backing: RbdBacking;
  path: string;
}

/**
 * Shows any storage's disk as a file of this machine, because every target can open a file.
 *
 * RBD always goes through qemu-storage-daemon, although tgt has a backing store for RBD: that one has no namespaces, which separate the
 * projects, and with the librbd of Ceph 16 a READ of zero blocks ends its tgtd.
 *
 * All calls are idempotent, and throw TargetError `target.no_backing`, or `storage.too_many_attached` for one disk too many of a project. Those
 * of one pool (project) run one after the other. A daemon or a cluster that hangs blocks only those, and not for ever.
 */
export class Backings {
  private readonly projects = new Map<string, ProjectDaemon>();
  private readonly locks = new Locks();
  private readonly lostListeners: ((pool: string) => void)[] = [];

  private constructor(
    private readonly directory: string,
    private readonly cluster: CephCluster | undefined,
  ) {}

  /** Finds what was left from before a restart; `observe` takes it over. Talks neither to daemons nor to the cluster. */
  static async open({ directory, ceph }: BackingsConfig): Promise<Backings> {
    if (!ceph) return new Backings(directory, undefined);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    // The real path, because it is compared with the mount table.
    const backings = new Backings(await realpath(directory), new CephCluster(ceph.conf, ceph.user));
    for (const name of await readdir(backings.directory)) {
      const project = await ProjectDaemon.projectOf(join(backings.directory, name));
      if (project !== undefined) backings.daemonOf(project);
      else await rm(join(backings.directory, name), { recursive: true, force: true });
    }
    return backings;
  }

  /** The path of the file, now or later: the same for the same backing. */
  path(pool: string, backing: BackingStore): string {
    return backing.type === 'file' ? backing.path : new DiskRecords(this.directoryOf(pool)).path(backing);
  }

  /** Opens the disk and returns the path of its file. */
  async ensureFile(pool: string, backing: BackingStore): Promise<string> {
    if (backing.type === 'rbd') await this.inTurn(pool, backing, () => this.daemonOf(pool).ensureOpen(backing));
    return this.path(pool, backing);
  }

  /** Closes the disk, after the target has closed it. Only then can the volume be removed. */
  async ensureNoFile(pool: string, backing: BackingStore): Promise<void> {
    if (backing.type === 'file') return;
    await this.inTurn(pool, backing, async () => {
      const daemon = this.daemonOf(pool);
      await daemon.ensureClosed(backing);
      if ((await daemon.disks()).length === 0) this.projects.delete(pool);
    });
  }

  /** The pools that have an image open, or soon will. */
  pools(): string[] {
    return [...this.projects.keys()];
  }

  /** All images of a pool that are files here, or were until their daemon died. Takes over the daemon from before a restart. */
  async observe(pool: string): Promise<ShownImage[]> {
    const daemon = this.projects.get(pool);
    if (!daemon) return [];
    return this.locks.exclusive(pool, async () => {
      // One that cannot be taken over now does not block the others. Whoever wants a disk of it gets the error, and it is tried again.
      await daemon.adopt().catch(() => undefined);
      return (await daemon.disks()).map((backing) => ({ backing, path: this.path(pool, backing) }));
    });
  }

  /** The files of a pool are gone, because their daemon died, until `ensureFile` puts each back. */
  onLost(listener: (pool: string) => void): void {
    this.lostListeners.push(listener);
  }

  /** Disconnects from the daemons. The files stay: they survive a restart of the service. */
  async close(): Promise<void> {
    this.lostListeners.length = 0;
    await this.locks.settled();
    await Promise.all([...this.projects.values()].map((daemon) => daemon.close()));
    await this.cluster?.close();
  }

  /** Closes, and ends every daemon: for the end of an installation, or of a test. The targets must have closed the disks before. */
  async stopAll(): Promise<void> {
    await this.close();
    await Promise.all([...this.projects.values()].map((daemon) => daemon.end()));
  }

  private daemonOf(pool: string): ProjectDaemon {
    if (!this.cluster) {
      throw new TargetError('target.no_backing', 'iscsi-svc has no Ceph cluster: set M2_CEPH_CONF to its ceph.conf');
    }
    const known = this.projects.get(pool);
    if (known) return known;
    const tellLost = () => {
      for (const listener of this.lostListeners) listener(pool);
    };
    const daemon = new ProjectDaemon(this.directoryOf(pool), pool, this.cluster, tellLost);
    this.projects.set(pool, daemon);
    return daemon;
  }

  /** Short, and of letters that are allowed in a path. */
  private directoryOf(pool: string): string {
    return join(this.directory, createHash('sha256').update(pool).digest('hex').slice(0, 16));
  }

  private async inTurn(pool: string, backing: RbdBacking, work: () => Promise<void>): Promise<void> {
    try {
      await this.locks.exclusive(pool, work);
    } catch (error) {
      if (!(error instanceof StorageDaemonError) && !(error instanceof RbdError)) throw error;
      throw new TargetError(
        error.code === 'daemon.full' ? 'storage.too_many_attached' : 'target.no_backing',
        `the image ${formatBacking(backing)} cannot be opened: ${error.message}`,
        {
          cause: error,
        },
      );
    }
  }
}
