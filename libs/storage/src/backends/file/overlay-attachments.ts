import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import {
  addDiskExport,
  addDiskLayer,
  exportedDisks,
  mountsIn,
  nodesNamed,
  removeDiskExport,
  removeDiskLayers,
  StorageDaemon,
  unmountLazily,
} from '@m2/storage-daemon';
import type { Qmp } from '@m2/storage-daemon';
import { StorageError } from '../../storage.port.js';
import { mapDaemonErrors } from './daemon-errors.js';
import { nextLayer, overlayDisk, overlayNode, overlayNodes, overlayNodesOf } from './overlay-disk.js';
import type { OverlayFiles } from './overlay-disk.js';

/** A connection to the daemon, and what it exports. */
interface Session {
  qmp: Qmp;
  /** By volume: the number of its file when it was attached, and the numbers of the files that took its writes since. */
  exported: Map<string, number[]>;
  /** How many more it is about to export. */
  beginning: number;
}

export interface OverlayAttachmentsOptions {
  /** State directory: an absolute path without symbolic links, because it is compared with the mount table. */
  directory: string;
  /** Where the mount points are: one file per attached volume. */
  mountpoints: string;
  /** The disks that should be attached, from the state on disk. */
  wanted(): Promise<string[]>;
  /** Gives the files of a disk to `use`. They keep their names until it is done. */
  withFiles<T>(volume: string, use: (files: OverlayFiles) => Promise<T>): Promise<T>;
  onLost(volumes: string[]): void;
}

/**
 * Shows qcow2 overlays as raw files, through one storage daemon, and mounts them again when it dies.
 *
 * The order of a restart: the old daemon is certainly dead (it holds locks on the overlays); its dead mounts are removed (a mount point
 * under a dead mount answers ENOTCONN); a new daemon mounts the disks; the listeners are told.
 */
export class OverlayAttachments {
  private readonly daemon: StorageDaemon;
  private readonly stopping = new AbortController();
  private session: Promise<Session> | undefined;

  constructor(private readonly options: OverlayAttachmentsOptions) {
    this.daemon = new StorageDaemon(options.directory);
  }

  /** Adopts or starts the daemon now, so that no attach has to wait for it. */
  async open(): Promise<void> {
    await mapDaemonErrors(() => this.current());
  }

  async attach(volume: string): Promise<string> {
    return mapDaemonErrors(async () => {
      const session = await this.current();
      if (session.exported.has(volume)) {
        const mounted = await mountsIn(this.options.mountpoints);
        if (mounted.includes(this.mountpoint(volume))) return this.mountpoint(volume);
        await this.remove(session, volume); // somebody unmounted it by hand
      }
      await this.add(session, volume);
      return this.mountpoint(volume);
    });
  }

  async detach(volume: string): Promise<void> {
    await mapDaemonErrors(async () => {
      const session = await this.current();
      if (session.exported.has(volume)) await this.remove(session, volume);
    });
  }

  /**
   * After the disk got a newer file: writes go there from now on, if the disk is attached. When it returns, the older files do not change
   * any more.
   */
  async follow(volume: string): Promise<void> {
    await mapDaemonErrors(async () => this.followIn(await this.current(), volume));
  }

  /** Checks the daemon and not each disk: a damaged disk is a problem of its node, and no reason to stop all. */
  async health(): Promise<void> {
    await mapDaemonErrors(async () => {
      const { qmp } = await this.current();
      await qmp.execute('query-block-exports', {}, 3_000);
    });
  }

  /** Disconnects from the daemon, which goes on. */
  async close(): Promise<void> {
    this.stopping.abort();
    const session = await this.session?.catch(() => undefined);
    session?.qmp.close();
    await session?.qmp.closed;
  }

  /** Ends the daemon and removes its mounts. */
  async stop(): Promise<void> {
    await this.close();
    await mapDaemonErrors(async () => {
      await this.daemon.quit();
      await unmountLazily(await mountsIn(this.options.mountpoints));
    });
  }

  private mountpoint(volume: string): string {
    return join(this.options.mountpoints, volume);
  }

  /** The only session. The first caller creates it; after a failure the next one tries again. */
  private current(): Promise<Session> {
    if (this.stopping.signal.aborted) {
      return Promise.reject(new StorageError('storage.unavailable', 'The storage backend is closed. Retry.'));
    }
    if (!this.session) {
      const attempt = this.connect();
      this.session = attempt;
      attempt.catch(() => {
        if (this.session === attempt) this.session = undefined;
      });
    }
    return this.session;
  }

  private async connect(): Promise<Session> {
    const adopted = await this.daemon.adopt();
    if (!adopted) await unmountLazily(await mountsIn(this.options.mountpoints));
    const qmp = adopted ?? (await this.daemon.start());
    try {
      const exported = adopted ? await exportedLayers(qmp) : new Map<string, number[]>();
      const session = { qmp, exported, beginning: 0 };
      const lost = await this.reconcile(session);
      void qmp.closed.then(() => this.recover());
      if (lost.length > 0) this.options.onLost(lost);
      return session;
    } catch (error) {
      qmp.close();
      throw error;
    }
  }

  /** Makes the daemon export what is wanted. Returns the volumes whose old mount, if any, was replaced. */
  private async reconcile(session: Session): Promise<string[]> {
    const wanted = await this.options.wanted();
    const mounted = await mountsIn(this.options.mountpoints);
    const good = new Set<string>();
    for (const volume of wanted.filter((it) => session.exported.has(it) && mounted.includes(this.mountpoint(it)))) {
      // A tag may have been interrupted half-way.
      await this.followIn(session, volume).then(
        () => good.add(volume),
        () => {},
      );
    }
    for (const volume of session.exported.keys()) if (!good.has(volume)) await this.remove(session, volume);
    const replaced: string[] = [];
    for (const volume of wanted.filter((it) => !good.has(it))) {
      try {
        await this.add(session, volume);
        replaced.push(volume);
      } catch {
        // A damaged disk must not block the others. Whoever attaches it gets the error.
      }
    }
    return replaced;
  }

  private async recover(): Promise<void> {
    this.session = undefined;
    for (let wait = 100; !this.stopping.signal.aborted; wait = Math.min(wait * 2, 30_000)) {
      try {
        await this.current();
        return;
      } catch {
        // `health` and every attach report the same error; this only tries again.
        await pause(wait, undefined, { signal: this.stopping.signal, ref: false }).catch(() => {});
      }
    }
  }

  private async followIn({ qmp, exported }: Session, volume: string): Promise<void> {
    const layers = exported.get(volume);
    if (!layers) return;
    await this.options.withFiles(volume, async ({ disk }) => {
      if (disk.number === layers.at(-1)) return;
      await addDiskLayer(qmp, nextLayer(disk, layers));
      layers.push(disk.number);
    });
  }

  private async add(session: Session, volume: string): Promise<void> {
    const { qmp, exported } = session;
    await this.options.withFiles(volume, async (files) => {
      const others = exported.size + session.beginning;
      session.beginning += 1;
      try {
        await addDiskExport(qmp, overlayDisk(files, this.mountpoint(volume)), others);
        exported.set(volume, [files.disk.number]);
      } finally {
        session.beginning -= 1;
      }
    });
  }

  private async remove({ qmp, exported }: Session, volume: string): Promise<void> {
    await removeDiskExport(qmp, volume);
    // The first went with its export. The others were opened separately.
    const [, ...later] = exported.get(volume) ?? [];
    exported.delete(volume);
    await removeDiskLayers(
      qmp,
      later.toReversed().map((layer) => overlayNode(volume, layer)),
    );
  }
}

/** What an adopted daemon exports, after removing what an interrupted tag or detach left in it. */
async function exportedLayers(qmp: Qmp): Promise<Map<string, number[]>> {
  const volumes = await exportedDisks(qmp);
  const nodes = new Set(await nodesNamed(qmp, overlayNodes));
  const exported = new Map<string, number[]>();
  for (const volume of volumes) {
    const start = overlayNodesOf(volume);
    const own = [...nodes].filter((node) => node.startsWith(start));
    own.forEach((node) => nodes.delete(node));
    const layers = own.map((node) => Number(node.slice(start.length))).sort((a, b) => a - b);
    // A file that was opened and not yet added to its disk can be closed. QEMU does not close those that a disk uses.
    const last = overlayNode(volume, layers.at(-1) ?? 0);
    if (
      layers.length > 1 &&
      (await removeDiskLayers(qmp, [last]).then(
        () => true,
        () => false,
      ))
    )
      layers.pop();
    exported.set(volume, layers);
  }
  // Files of disks that are not exported any more. Only the newest can be closed, then the next.
  const number = (node: string) => Number(node.slice(node.lastIndexOf('-') + 1));
  await removeDiskLayers(
    qmp,
    [...nodes].sort((a, b) => number(b) - number(a)),
  );
  return exported;
}
