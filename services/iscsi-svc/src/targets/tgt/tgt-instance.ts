import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { identify, isAlive, killVerified, type ProcessIdentity } from '@m2/storage-daemon';
import { TargetError, type Portal } from '../target.port.js';
import { TgtClient } from './tgt-client.js';
import { parsePortals } from './tgt-listing.js';

/** sun_path of struct sockaddr_un holds 108 bytes with its NUL (unix(7)). */
const MAX_SOCKET_PATH = 107;
const START_DEADLINE_MS = 10_000;
const STOP_DEADLINE_MS = 5_000;
const MAX_LOG_BYTES = 1024 * 1024;
/** Threads per LUN: the I/O that one node can have in progress at the medium. */
const THREADS_PER_LUN = 4;

/** What is known about one tgtd across restarts of the service: the content of its `tgtd.N.json`. */
export interface TgtRecord extends ProcessIdentity {
  /** tgtd's control number (`-C`): the N of all its files. */
  control: number;
  /** The pool whose exports it has; null for the spare. It never changes. */
  pool: string | null;
  /** Null until its portals are open. */
  port: number | null;
}

/** The files of tgtd number `control`. The lock is tgtd's own. */
export function instanceFiles(stateDir: string, control: number) {
  const base = join(stateDir, `tgtd.${control}`);
  return {
    record: `${base}.json`,
    newRecord: `${base}.json.new`,
    log: `${base}.log`,
    socket: base,
    lock: `${base}.lock`,
  };
}

export function removeFiles(stateDir: string, control: number): void {
  const { record, ...others } = instanceFiles(stateDir, control);
  // The record goes last: as long as it is there, the next start of the service finds the rest.
  for (const file of [...Object.values(others), record]) rmSync(file, { force: true });
}

/** Refuses a state directory whose path is too long for a UNIX socket; tgtd would only log that. */
export function checkStateDir(stateDir: string): void {
  const longest = instanceFiles(stateDir, 32_767).socket;
  if (Buffer.byteLength(longest) > MAX_SOCKET_PATH) {
    throw new TargetError(
      'target.invalid_value',
      `the state directory ${stateDir} is too long for a UNIX socket (${MAX_SOCKET_PATH} bytes with its name): use a shorter one`,
    );
  }
}

/** One tgtd process: start, portals, death, end. `TgtPool` decides which pool it serves. */
export class TgtInstance {
  readonly client: TgtClient;

  private constructor(
    private readonly stateDir: string,
    private record: TgtRecord,
  ) {
    this.client = new TgtClient(instanceFiles(stateDir, record.control).socket);
  }

  static adopt(stateDir: string, record: TgtRecord): TgtInstance {
    return new TgtInstance(stateDir, record);
  }

  /**
   * Starts a tgtd that survives this process, without portals; `onExit` is called when it dies while we live. Throws
   * `target.not_installed`, or `target.unreachable` with the end of its log.
   */
  static async start(
    stateDir: string,
    control: number,
    pool: string | null,
    port: number | null,
    onExit: () => void,
  ): Promise<TgtInstance> {
    const child = await spawnTgtd(stateDir, control);
    child.once('exit', onExit);
    const pid = child.pid!;
    const instance = new TgtInstance(stateDir, { control, pool, port, ...(identify(pid) ?? { pid, identity: '' }) });
    try {
      // Recorded at once, so that a crash of ours right here leaves no unknown process.
      instance.save(instance.record);
      await instance.untilAnswering();
      return instance;
    } catch (error) {
      await instance.kill();
      throw error;
    }
  }

  get control(): number {
    return this.record.control;
  }

  get pool(): string | null {
    return this.record.pool;
  }

  get port(): number | null {
    return this.record.port;
  }

  get pid(): number {
    return this.record.pid;
  }

  get alive(): boolean {
    return isAlive(this.record);
  }

  /** Gives the spare to a pool. */
  assign(pool: string): void {
    this.save({ ...this.record, pool });
  }

  /**
   * Makes tgtd listen on `port` of all addresses and nowhere else. Returns false when somebody else listens there: then tgtd has none of
   * these portals.
   */
  async openPortals(addresses: string[], port: number): Promise<boolean> {
    const wanted = addresses.map((address) => formatPortal({ address, port }));
    const open = parsePortals(await this.client.call({ mode: 'portal', op: 'show' }));
    const opened: string[] = [];
    for (const portal of wanted.filter((portal) => !open.includes(portal))) {
      try {
        await this.client.call({ mode: 'portal', op: 'new', params: { portal } });
        opened.push(portal);
      } catch (error) {
        if (!(error instanceof TargetError) || error.code !== 'target.failed') throw error;
        for (const portal of opened) await this.closePortal(portal);
        return false;
      }
    }
    for (const portal of open.filter((portal) => !wanted.includes(portal))) await this.closePortal(portal);
    this.save({ ...this.record, port });
    return true;
  }

  /** Ends tgtd if it has no targets, and does no harm if it has: returns true when it is gone, and its files, too. */
  async end(): Promise<boolean> {
    if (this.alive) {
      try {
        // Refused while there is a target (usr/mgmt.c, sys_mgmt); SIGTERM does nothing at all (usr/tgtd.c).
        await this.client.call({ mode: 'system', op: 'delete' });
      } catch (error) {
        if (error instanceof TargetError && error.code === 'target.failed') return false;
        if (this.alive) throw error;
      }
    }
    await this.kill();
    this.forget();
    return true;
  }

  /** Kills tgtd in any state; resolves when the process is gone. Throws `target.busy` when it does not die. */
  async kill(): Promise<void> {
    for (const deadline = performance.now() + STOP_DEADLINE_MS; this.alive; await delay(5)) {
      killVerified(this.record);
      if (performance.now() > deadline) {
        throw new TargetError(
          'target.busy',
          `tgtd ${this.pid} does not die: its storage hangs; repair or abort that first`,
        );
      }
    }
  }

  /** Removes the files of a tgtd that is gone. */
  forget(): void {
    removeFiles(this.stateDir, this.control);
  }

  /** Keeps the log small: anybody on the network can make tgtd log bad logins for ever. */
  trimLog(): void {
    const { log } = instanceFiles(this.stateDir, this.control);
    if ((statSync(log, { throwIfNoEntry: false })?.size ?? 0) > MAX_LOG_BYTES) truncateSync(log);
  }

  private async closePortal(portal: string): Promise<void> {
    await this.client.call({ mode: 'portal', op: 'delete', params: { portal } });
  }

  /** Written before it is set here: what the disk did not take must not be relied on. */
  private save(record: TgtRecord): void {
    const files = instanceFiles(this.stateDir, this.control);
    writeFileSync(files.newRecord, JSON.stringify(record), { mode: 0o600 });
    renameSync(files.newRecord, files.record);
    this.record = record;
  }

  private async untilAnswering(): Promise<void> {
    for (const deadline = performance.now() + START_DEADLINE_MS; ; await delay(2)) {
      try {
        await this.client.call({ mode: 'portal', op: 'show' });
        return;
      } catch (error) {
        const notYet = error instanceof TargetError && error.code === 'target.unreachable';
        if (notYet && this.alive && performance.now() < deadline) continue;
        const log = readFileSync(instanceFiles(this.stateDir, this.control).log, 'utf8').trim().slice(-300);
        throw new TargetError('target.unreachable', `tgtd did not start; its log ends: ${log}`, { cause: error });
      }
    }
  }
}

function formatPortal({ address, port }: Portal): string {
  return `${address.includes(':') ? `[${address}]` : address}:${port}`;
}

async function spawnTgtd(stateDir: string, control: number): Promise<ChildProcess> {
  const files = instanceFiles(stateDir, control);
  rmSync(files.log, { force: true });
  // Opened for appending, so that `trimLog` can truncate it while tgtd writes.
  const log = openSync(files.log, 'ax', 0o600);
  // A portal that cannot fail: when none of its portals opens, tgtd listens on 0.0.0.0:3260 instead (usr/iscsi/iscsi_tcp.c,
  // iscsi_tcp_init). `openPortals` replaces it.
  const args = ['-f', '-t', `${THREADS_PER_LUN}`, '-C', `${control}`, '--iscsi', 'portal=127.0.0.1:0'];
  // Nothing else of our environment, which has secrets. Debian installs tgtd outside of users' PATH.
  const env = { PATH: `${process.env.PATH}:/usr/sbin:/sbin`, TGT_IPC_SOCKET: join(stateDir, 'tgtd') };
  const child = spawn('tgtd', args, { detached: true, cwd: '/', env, stdio: ['ignore', 'ignore', log] });
  child.unref();
  try {
    await once(child, 'spawn');
    return child;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new TargetError('target.not_installed', 'there is no tgtd on this machine: install the package tgt', {
      cause: error,
    });
  } finally {
    closeSync(log);
  }
}
