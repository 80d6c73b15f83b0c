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
 * The qemu-storage-daemon behind one state directory. It is a separate process in its own session, so that disks stay attached while the
 * service restarts; `daemon.json` names it, `daemon.sock` speaks QMP, `daemon.log` has its output. Its user makes sure that there is one
 * object per directory at a time: so a daemon that does not answer hangs.
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
   * Connects to the running daemon; returns undefined, after cleaning up, when it is dead or does not answer. One that does not answer is
   * killed, and its disks with it: `mayKill` may find out why it does not answer, and throw to let it live. Error `daemon.misconfigured`:
   * the directory's path is too long.
   */
  async adopt(mayKill: () => Promise<void> = async () => {}): Promise<Qmp | undefined> {
    this.checkSocketPath();
    const recorded = await this.recorded();
    const alive = recorded !== undefined && isAlive(recorded);
    let qmp: Qmp | undefined;
    try {
      qmp = await Qmp.connect(this.socketPath, 10_000);
    } catch {
      // No daemon, or one that hangs.
    }
    if (qmp && alive) return qmp;
    if (qmp) await this.sendQuit(qmp); // its starter died just after starting it: it serves nothing yet
    if (alive) {
      await mayKill();
      await this.kill(recorded);
    }
    await this.forget();
    return undefined;
  }

  /**
   * Starts a new daemon. The caller has made sure with `adopt` that there is none. One that dies by a signal as it starts is started once more:
   * QEMU was seen to abort at an assertion of its monitor there, under load, and it serves nothing yet.
   */
  async start(): Promise<Qmp> {
    return (await this.attempt()) ?? (await this.attempt()) ?? Promise.reject(await this.startFailure());
  }

  /** Returns undefined when the daemon died by a signal. */
  private async attempt(): Promise<Qmp | undefined> {
    const log = await open(this.logPath, 'w', 0o600);
    try {
      const child = spawn(
        'qemu-storage-daemon',
        // In QEMU's option syntax a comma in a value is doubled.
        [
          '--chardev',
          `socket,id=qmp,server=on,wait=off,path=${this.socketPath.replaceAll(',', ',,')}`,
          '--monitor',
          'chardev=qmp',
        ],
        // In its own session: a signal to the service's group (Ctrl-C) must not end the disks.
        {
          detached: true,
          stdio: ['ignore', log.fd, log.fd],
          cwd: '/',
          env: { PATH: process.env['PATH'], LC_ALL: 'C' },
        },
      );
      const ended = once(child, 'exit').then(
        async ([code]) => (code === null ? undefined : this.startFailure()),
        (error: unknown) => startError(error),
      );
      child.unref();
      const qmp = await this.recordAndConnect(child.pid);
      if (qmp) return qmp;
      const failure = await ended;
      if (failure) throw failure;
      return undefined;
    } finally {
      await log.close();
    }
  }

  /**
   * Ends the daemon with `quit`, which unmounts its exports, and else with SIGKILL. Pass the connection if there is one, because the daemon
   * accepts one at a time.
   */
  async quit(connected?: Qmp): Promise<void> {
    const recorded = await this.recorded();
    const qmp = connected ?? (await Qmp.connect(this.socketPath, 2_000).catch(() => undefined));
    if (qmp) await this.sendQuit(qmp);
    if (recorded && isAlive(recorded)) await this.kill(recorded);
    await this.forget();
  }

  /** The daemon's process, for messages to an operator (or a test). */
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

  /** Returns undefined when the daemon died: its `exit` says why. */
  private async recordAndConnect(pid: number | undefined): Promise<Qmp | undefined> {
    const who = pid === undefined ? undefined : identify(pid);
    if (!who) return undefined;
    await writeFile(`${this.recordPath}.new`, JSON.stringify(who), { mode: 0o600 });
    await rename(`${this.recordPath}.new`, this.recordPath);
    const deadline = performance.now() + startDeadlineMs;
    for (;;) {
      try {
        return await Qmp.connect(this.socketPath, startDeadlineMs);
      } catch (error) {
        if (!isAlive(who)) return undefined;
        if (performance.now() > deadline)
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

  /** Waits until it is gone: a second daemon would find the disks' files still locked. */
  private async kill(who: ProcessIdentity): Promise<void> {
    const deadline = performance.now() + 10_000;
    const forceAt = performance.now() + 500; // it may be ending after `quit`
    while (isAlive(who)) {
      if (performance.now() > deadline) {
        throw new StorageDaemonError(
          'daemon.timeout',
          `The storage daemon ${who.pid} does not die. Check the disks below it.`,
        );
      }
      if (performance.now() > forceAt) {
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
