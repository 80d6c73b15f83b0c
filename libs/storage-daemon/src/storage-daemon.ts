import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { StorageDaemonError } from './errors.js';
import { identify, isAlive, killVerified } from './process-identity.js';
import type { ProcessIdentity } from './process-identity.js';
import { Qmp } from './qmp.js';

/** unix(7): sun_path has 108 bytes, the last of them zero. */
const maxSocketPath = 107;
const startDeadlineMs = 15_000;

/**
 * The qemu-storage-daemon behind one state directory. It is a process of its own, in its own session, so that disks
 * stay attached while the service restarts; `daemon.json` names it, `daemon.sock` speaks QMP, `daemon.log` has its words.
 * One object per directory at a time, which its user makes sure of: so a daemon that does not answer is a hung one.
 */
export class StorageDaemon {
  private readonly socketPath: string;
  private readonly recordPath: string;
  private readonly logPath: string;

  constructor(directory: string) {
    this.socketPath = join(directory, 'daemon.sock');
    this.recordPath = join(directory, 'daemon.json');
    this.logPath = join(directory, 'daemon.log');
  }

  /**
   * Connects to the daemon that runs already; undefined, and nothing left of it, when it is dead or does not answer. One
   * that does not answer is killed, and its disks with it: `mayKill` may look why it does not, and throw to let it live.
   * Error `daemon.misconfigured`: the directory's path is too long.
   */
  async adopt(mayKill: () => Promise<void> = async () => {}): Promise<Qmp | undefined> {
    this.checkSocketPath();
    const recorded = await this.recorded();
    const alive = recorded !== undefined && isAlive(recorded);
    let qmp: Qmp | undefined;
    try {
      qmp = await Qmp.connect(this.socketPath, 10_000);
    } catch {
      // Nobody there, or hung.
    }
    if (qmp && alive) return qmp;
    if (qmp) await this.sendQuit(qmp); // started just before its starter died: it serves nothing yet
    if (alive) {
      await mayKill();
      await this.kill(recorded);
    }
    await this.forget();
    return undefined;
  }

  /** Starts a new daemon; the caller has made sure with `adopt` that there is none. */
  async start(): Promise<Qmp> {
    const log = await open(this.logPath, 'w', 0o600);
    try {
      const child = spawn(
        'qemu-storage-daemon',
        // In QEMU's option syntax a comma within a value is doubled.
        [
          '--chardev',
          `socket,id=qmp,server=on,wait=off,path=${this.socketPath.replaceAll(',', ',,')}`,
          '--monitor',
          'chardev=qmp',
        ],
        // Its own session: a signal to the service's group (Ctrl-C) must not take the disks away.
        {
          detached: true,
          stdio: ['ignore', log.fd, log.fd],
          cwd: '/',
          env: { PATH: process.env['PATH'], LC_ALL: 'C' },
        },
      );
      const ended = once(child, 'exit').then(
        () => this.startFailure(),
        (error: unknown) => startError(error),
      );
      child.unref();
      const started = this.recordAndConnect(child.pid);
      const outcome = await Promise.race([started, ended]);
      if (outcome instanceof Error) {
        void started.catch(() => {});
        throw outcome;
      }
      return outcome;
    } finally {
      await log.close();
    }
  }

  /**
   * Ends the daemon, politely and then not; its exports are unmounted by itself when it goes politely. Whoever is
   * connected to it gives that connection, as the daemon listens to one at a time.
   */
  async quit(connected?: Qmp): Promise<void> {
    const recorded = await this.recorded();
    const qmp = connected ?? (await Qmp.connect(this.socketPath, 2_000).catch(() => undefined));
    if (qmp) await this.sendQuit(qmp);
    if (recorded && isAlive(recorded)) await this.kill(recorded);
    await this.forget();
  }

  /** The daemon's process, for whoever has to tell an operator (or a test) which one it is. */
  async recorded(): Promise<ProcessIdentity | undefined> {
    try {
      return JSON.parse(await readFile(this.recordPath, 'utf8')) as ProcessIdentity;
    } catch {
      return undefined;
    }
  }

  private checkSocketPath(): void {
    const length = Buffer.byteLength(this.socketPath);
    if (length <= maxSocketPath) return;
    throw new StorageDaemonError(
      'daemon.misconfigured',
      `The socket's path ${this.socketPath} has ${length} bytes and UNIX allows ${maxSocketPath}. ` +
        'Choose a state directory with a shorter path.',
    );
  }

  private async recordAndConnect(pid: number | undefined): Promise<Qmp> {
    const who = pid === undefined ? undefined : identify(pid);
    if (!who) return new Promise(() => {}); // it died at once: `exit` says why
    await writeFile(`${this.recordPath}.new`, JSON.stringify(who), { mode: 0o600 });
    await rename(`${this.recordPath}.new`, this.recordPath);
    const deadline = Date.now() + startDeadlineMs;
    for (;;) {
      try {
        return await Qmp.connect(this.socketPath, startDeadlineMs);
      } catch (error) {
        if (!isAlive(who)) return new Promise(() => {});
        if (Date.now() > deadline)
          throw new StorageDaemonError('daemon.unavailable', 'The storage daemon cannot be reached. Retry.', {
            cause: error,
          });
        await pause(5);
      }
    }
  }

  private async sendQuit(qmp: Qmp): Promise<void> {
    await qmp.execute('quit', {}, 5_000).catch(() => undefined);
    await Promise.race([qmp.closed, pause(5_000, undefined, { ref: false })]);
    qmp.close();
  }

  /** Waits until it is gone: a second daemon would find the disks' files locked by the first. */
  private async kill(who: ProcessIdentity): Promise<void> {
    const deadline = Date.now() + 10_000;
    const forceAt = Date.now() + 500; // it may be on its way out after `quit`
    while (isAlive(who)) {
      if (Date.now() > deadline) {
        throw new StorageDaemonError(
          'daemon.timeout',
          `The storage daemon ${who.pid} does not die. Check the disks below it.`,
        );
      }
      if (Date.now() > forceAt) {
        killVerified(who);
      }
      await pause(10);
    }
  }

  private async forget(): Promise<void> {
    await Promise.all([rm(this.socketPath, { force: true }), rm(this.recordPath, { force: true })]);
  }

  private async startFailure(): Promise<StorageDaemonError> {
    const words = (await readFile(this.logPath, 'utf8').catch(() => '')).trim().split('\n').at(-1);
    return new StorageDaemonError(
      'daemon.unavailable',
      `qemu-storage-daemon did not start: ${words || 'it said nothing'}.`,
    );
  }
}

function startError(error: unknown): StorageDaemonError {
  return new StorageDaemonError(
    'daemon.not_installed',
    'qemu-storage-daemon cannot be started. Install it (Debian: qemu-system-common, and fuse3).',
    { cause: error },
  );
}
