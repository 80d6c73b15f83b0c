import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { StorageError } from '../storage.port.js';
import { addExport, exportedVolumes, removeExport } from './exports.js';
import { mountsIn, unmountLazily } from './mounts.js';
import type { Qmp } from './qmp.js';
import { StorageDaemon } from './storage-daemon.js';

/** A connection to the daemon, and what it is known to export. */
interface Session {
  qmp: Qmp;
  exported: Set<string>;
}

/** The overlay of a volume and its golden file. */
export interface OverlayFiles {
  volume: string;
  overlay: string;
  golden: string;
}

export interface OverlayAttachmentsOptions {
  /** State directory, an absolute path without symbolic links (it is compared with the mount table). */
  directory: string;
  /** Where the mount points are: one file per attached volume. */
  mountpoints: string;
  /** The overlays that are to be attached, from the state on disk. */
  wanted(): Promise<OverlayFiles[]>;
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
    await this.current();
  }

  async attach(files: OverlayFiles): Promise<string> {
    const mountpoint = this.mountpoint(files.volume);
    const session = await this.current();
    const mounted = await mountsIn(this.options.mountpoints);
    if (session.exported.has(files.volume)) {
      if (mounted.includes(mountpoint)) return mountpoint;
      await this.remove(session, files.volume); // somebody unmounted it by hand
    }
    await this.add(session, files);
    return mountpoint;
  }

  async detach(volume: string): Promise<void> {
    const session = await this.current();
    if (session.exported.has(volume)) await this.remove(session, volume);
  }

  /** Of the daemon, not of each disk: one that is damaged is a matter of its node, and no reason to stop all. */
  async health(): Promise<void> {
    const { qmp } = await this.current();
    await qmp.execute('query-block-exports', {}, 3_000);
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
    await this.daemon.quit();
    await unmountLazily(await mountsIn(this.options.mountpoints));
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
      const session = { qmp, exported: adopted ? await exportedVolumes(qmp) : new Set<string>() };
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
    const good = new Set(
      wanted
        .map((files) => files.volume)
        .filter((volume) => session.exported.has(volume) && mounted.includes(this.mountpoint(volume))),
    );
    for (const volume of session.exported) if (!good.has(volume)) await this.remove(session, volume);
    const replaced: string[] = [];
    for (const files of wanted.filter(({ volume }) => !good.has(volume))) {
      try {
        await this.add(session, files);
        replaced.push(files.volume);
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

  private async add(session: Session, files: OverlayFiles): Promise<void> {
    await addExport(session.qmp, { ...files, mountpoint: this.mountpoint(files.volume) });
    session.exported.add(files.volume);
  }

  private async remove(session: Session, volume: string): Promise<void> {
    await removeExport(session.qmp, volume);
    session.exported.delete(volume);
  }
}
