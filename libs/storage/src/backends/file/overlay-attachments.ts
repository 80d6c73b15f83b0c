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

/** A connection to the daemon, and what it is known to export. */
interface Session {
  qmp: Qmp;
  /** By volume: the number of its file when it was attached, and those of the files that took its writes since. */
  exported: Map<string, number[]>;
}

export interface OverlayAttachmentsOptions {
  /** State directory, an absolute path without symbolic links (it is compared with the mount table). */
  directory: string;
  /** Where the mount points are: one file per attached volume. */
  mountpoints: string;
  /** The disks that are to be attached, from the state on disk. */
  wanted(): Promise<string[]>;
  /** Hands over the files of a disk, which keep their names until `use` is done. */
  withFiles<T>(volume: string, use: (files: OverlayFiles) => Promise<T>): Promise<T>;
  onLost(volumes: string[]): void;
}

/**
 * Keeps qcow2 overlays visible as raw files, through one storage daemon, and puts them back when it dies.
 *
 * Putting back goes in this order: the old daemon is gone for sure (it holds locks on the overlays), then its dead mounts
 * are taken away (a mount point under a dead mount answers ENOTCONN), then a new daemon mounts, then listeners are told.
 */
export class OverlayAttachments {
  private readonly daemon: StorageDaemon;
  private readonly stopping = new AbortController();
  private session: Promise<Session> | undefined;

  constructor(private readonly options: OverlayAttachmentsOptions) {
    this.daemon = new StorageDaemon(options.directory);
  }

  /** Adopts or starts the daemon now, so that no attach pays for it. */
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

  /** After the disk got a newer file: has its writes go there, if it is attached. When done, the older ones are final. */
  async follow(volume: string): Promise<void> {
    await mapDaemonErrors(async () => this.followIn(await this.current(), volume));
  }

  /** Of the daemon, not of each disk: one that is damaged is a matter of its node, and no reason to stop all. */
  async health(): Promise<void> {
    await mapDaemonErrors(async () => {
      const { qmp } = await this.current();
      await qmp.execute('query-block-exports', {}, 3_000);
    });
  }

  /** Lets go of the daemon, which goes on. */
  async close(): Promise<void> {
    this.stopping.abort();
    const session = await this.session?.catch(() => undefined);
    session?.qmp.close();
    await session?.qmp.closed;
  }

  /** Ends the daemon and leaves no mount behind. */
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

  /** The one session, being made by the first who asks; a failed attempt is made again by the next. */
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
      const session = { qmp, exported: adopted ? await exportedLayers(qmp) : new Map<string, number[]>() };
      const lost = await this.reconcile(session);
      void qmp.closed.then(() => this.recover());
      if (lost.length > 0) this.options.onLost(lost);
      return session;
    } catch (error) {
      qmp.close();
      throw error;
    }
  }

  /** Makes the daemon's exports those that are wanted; returns the volumes whose old mount, if any, was replaced. */
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
        // One damaged disk must not keep the others away; who attaches it meets the error.
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
        // `health` and every attach meet the same error and report it; here we only go on trying.
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

  private async add({ qmp, exported }: Session, volume: string): Promise<void> {
    await this.options.withFiles(volume, async (files) => {
      await addDiskExport(qmp, overlayDisk(files, this.mountpoint(volume)));
      exported.set(volume, [files.disk.number]);
    });
  }

  private async remove({ qmp, exported }: Session, volume: string): Promise<void> {
    await removeDiskExport(qmp, volume);
    // The first went with its export; the others were opened by themselves.
    const [, ...later] = exported.get(volume) ?? [];
    exported.delete(volume);
    await removeDiskLayers(
      qmp,
      later.toReversed().map((layer) => overlayNode(volume, layer)),
    );
  }
}

/** What an adopted daemon exports, after what an interrupted tag or detach left in it is removed. */
async function exportedLayers(qmp: Qmp): Promise<Map<string, number[]>> {
  const volumes = await exportedDisks(qmp);
  const nodes = new Set(await nodesNamed(qmp, overlayNodes));
  const exported = new Map<string, number[]>();
  for (const volume of volumes) {
    const start = overlayNodesOf(volume);
    const own = [...nodes].filter((node) => node.startsWith(start));
    own.forEach((node) => nodes.delete(node));
    const layers = own.map((node) => Number(node.slice(start.length))).sort((a, b) => a - b);
    // One that was opened and not put on its disk can be closed; the disk keeps QEMU from closing the others.
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
  // Of disks that are exported no more. Only the newest can be closed, then the next.
  const number = (node: string) => Number(node.slice(node.lastIndexOf('-') + 1));
  await removeDiskLayers(
    qmp,
    [...nodes].sort((a, b) => number(b) - number(a)),
  );
  return exported;
}
