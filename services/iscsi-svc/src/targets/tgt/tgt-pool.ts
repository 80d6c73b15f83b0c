import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { TargetError, type Portal } from '../target.port.js';
import { TgtClient } from './tgt-client.js';
import { checkStateDir, instanceFiles, removeFiles, TgtInstance, type TgtRecord } from './tgt-instance.js';

export interface TgtConfig {
  /** Holds sockets, records and logs of the tgtd instances; at most about 90 bytes long (UNIX socket paths). */
  stateDir: string;
  /** What initiators connect to: addresses of this machine, one portal each. */
  addresses: string[];
  /** The first port, and how many may be used: one per tenant with exports, and one for the spare. */
  portBase: number;
  portCount?: number;
}

/** How soon the death of a tgtd from before a restart is noticed. Our own children are noticed at once. */
const WATCH_MS = 1_000;

/**
 * One tgtd per pool (tenant). A tgtd is one process with one event loop, so a crash or a stall affects all of its targets. A spare is
 * started in advance, so that a tenant's first export does not wait for a start. A pool's tgtd ends with its last export. It never becomes
 * the spare, because what served one tenant must not serve another.
 *
 * Calls for one pool must not overlap; calls for different pools may.
 */
export class TgtPool {
  private readonly byPool = new Map<string, TgtInstance>();
  private readonly controls = new Set<number>();
  private readonly ports = new Set<number>();
  private readonly listening = new WeakSet<TgtInstance>();
  private readonly reportedLost = new WeakSet<TgtInstance>();
  private readonly lostListeners: ((pool: string) => void)[] = [];
  private spare: Promise<TgtInstance | undefined> | undefined;
  private readonly timer: NodeJS.Timeout;

  private constructor(private readonly config: Required<TgtConfig>) {
    this.timer = setInterval(() => this.watch(), WATCH_MS).unref();
  }

  /** Takes over what runs from before a restart, and removes what is incomplete. */
  static async open(config: TgtConfig): Promise<TgtPool> {
    const full = { portCount: 1_000, ...config, addresses: config.addresses.map(canonicalAddress) };
    if (full.addresses.length === 0) throw new TargetError('target.invalid_value', 'give at least one portal address');
    checkStateDir(full.stateDir);
    mkdirSync(full.stateDir, { recursive: true, mode: 0o700 });
    const pool = new TgtPool(full);
    await pool.adopt();
    pool.refill();
    return pool;
  }

  onLost(listener: (pool: string) => void): void {
    this.lostListeners.push(listener);
  }

  /** The pool's tgtd, dead or alive. */
  find(pool: string): TgtInstance | undefined {
    return this.byPool.get(pool);
  }

  pools(): string[] {
    return [...this.byPool.keys()];
  }

  /**
   * The pool's tgtd, running and listening. That is the one it has; or the same started again on its port, because its initiators come back
   * to that; or the spare; or a new one. Throws `target.no_port`, `target.not_installed`.
   */
  async claim(pool: string): Promise<TgtInstance> {
    const known = this.byPool.get(pool);
    if (known?.alive) {
      if (known.pool === null) known.assign(pool);
      if (!this.listening.has(known)) await this.listen(known, known.port!);
      return known;
    }
    if (known) {
      this.watch();
      const { control, port } = known;
      const restarted = await TgtInstance.start(this.config.stateDir, control, pool, port, () => this.watch());
      try {
        await this.listen(restarted, port!);
      } catch (error) {
        await restarted.kill();
        throw error;
      }
      this.byPool.set(pool, restarted);
      return restarted;
    }
    const instance = (await this.takeSpare()) ?? (await this.startNew(pool));
    this.byPool.set(pool, instance);
    this.refill();
    // Before it has a target: while its record calls it the spare, a restarted service would give it to anybody.
    if (instance.pool === null) instance.assign(pool);
    return instance;
  }

  portals(instance: TgtInstance): Portal[] {
    return this.config.addresses.map((address) => ({ address, port: instance.port! }));
  }

  /** Ends the pool's tgtd if it exports nothing. */
  async release(pool: string): Promise<void> {
    const instance = this.byPool.get(pool);
    if (!instance) return;
    // Removed from the map first, so that its end is not reported as a loss.
    this.byPool.delete(pool);
    try {
      if (await instance.end()) this.free(instance);
      else this.byPool.set(pool, instance);
    } catch (error) {
      this.byPool.set(pool, instance);
      throw error;
    }
  }

  /** Finds dead tgtd processes, and tells the listeners, once for each. */
  watch(): void {
    for (const [pool, instance] of this.byPool) {
      instance.trimLog();
      if (this.reportedLost.has(instance) || instance.alive) continue;
      this.reportedLost.add(instance);
      for (const listener of this.lostListeners) listener(pool);
    }
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    this.lostListeners.length = 0;
    await this.spare;
  }

  private async adopt(): Promise<void> {
    for (const control of knownControls(this.config.stateDir)) {
      const record = readRecord(this.config.stateDir, control);
      const instance = record && TgtInstance.adopt(this.config.stateDir, record);
      const inUse = instance?.pool && instance.port;
      const spare = instance?.alive && instance.port && !instance.pool && !this.spare;
      if (!instance) await removeUnrecorded(this.config.stateDir, control);
      else if (!inUse && !spare) {
        // Incomplete, or one spare too many: it never had an export.
        await instance.kill();
        instance.forget();
      } else {
        this.controls.add(control);
        this.ports.add(instance.port!);
        if (spare) this.spare = Promise.resolve(instance);
        else this.byPool.set(instance.pool!, instance);
        // A dead one keeps its port for its initiators. A caller sees now that it has no exports, so it is not reported as lost.
        if (!instance.alive) this.reportedLost.add(instance);
      }
    }
  }

  private async listen(instance: TgtInstance, port: number): Promise<void> {
    if (!(await instance.openPortals(this.config.addresses, port))) {
      throw new TargetError(
        'target.no_port',
        `port ${port} of pool ${instance.pool} is taken by another program: stop that, the pool's initiators know no other`,
      );
    }
    this.listening.add(instance);
  }

  private refill(): void {
    // Without a spare everything works, only slower. Whoever asks for an export gets the error.
    this.spare ??= this.startNew(null).catch(() => undefined);
  }

  private async takeSpare(): Promise<TgtInstance | undefined> {
    const taken = this.spare;
    this.spare = undefined;
    const instance = await taken;
    if (!instance) return undefined;
    if (instance.alive) {
      if (!this.listening.has(instance)) await this.listen(instance, instance.port!);
      return instance;
    }
    instance.forget();
    this.free(instance);
    return undefined;
  }

  private async startNew(pool: string | null): Promise<TgtInstance> {
    let control = 0;
    while (this.controls.has(control)) control++;
    this.controls.add(control);
    let instance: TgtInstance | undefined;
    try {
      instance = await TgtInstance.start(this.config.stateDir, control, pool, null, () => this.watch());
      await this.listenAnywhere(instance);
      return instance;
    } catch (error) {
      await instance?.kill();
      removeFiles(this.config.stateDir, control);
      this.controls.delete(control);
      throw error;
    }
  }

  private async listenAnywhere(instance: TgtInstance): Promise<void> {
    const { portBase, portCount, addresses } = this.config;
    const last = Math.min(portBase + portCount - 1, 65_535);
    for (let port = portBase; port <= last; port++) {
      if (this.ports.has(port)) continue;
      this.ports.add(port);
      let opened = false;
      try {
        opened = await instance.openPortals(addresses, port);
      } finally {
        if (!opened) this.ports.delete(port);
      }
      if (!opened) continue;
      this.listening.add(instance);
      return;
    }
    throw new TargetError(
      'target.no_port',
      `no port from ${portBase} to ${last} can be opened on ${addresses.join(', ')}: free some, or check that these are addresses of this machine`,
    );
  }

  private free(instance: TgtInstance): void {
    this.controls.delete(instance.control);
    if (instance.port) this.ports.delete(instance.port);
  }
}

/**
 * Kills every tgtd that was started with this state directory and removes its files: for the end of an installation, or of a test. No
 * `TgtPool` may be open on it. Sessions are cut; the exports are gone.
 */
export async function stopAllTgtd(stateDir: string): Promise<void> {
  for (const control of knownControls(stateDir)) {
    const record = readRecord(stateDir, control);
    if (record) {
      await TgtInstance.adopt(stateDir, record).kill();
      removeFiles(stateDir, control);
    } else await removeUnrecorded(stateDir, control);
  }
}

/** A tgtd without a record never had a target, because the record is written before the first one. So it can be asked to end. */
async function removeUnrecorded(stateDir: string, control: number): Promise<void> {
  const client = new TgtClient(instanceFiles(stateDir, control).socket);
  await client.call({ mode: 'system', op: 'delete' }).catch(() => undefined);
  removeFiles(stateDir, control);
}

function knownControls(stateDir: string): number[] {
  let names: string[];
  try {
    names = readdirSync(stateDir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return [...new Set(names.flatMap((name) => /^tgtd\.(\d+)/.exec(name)?.[1] ?? []).map(Number))];
}

function readRecord(stateDir: string, control: number): TgtRecord | undefined {
  try {
    return JSON.parse(readFileSync(instanceFiles(stateDir, control).record, 'utf8')) as TgtRecord;
  } catch {
    return undefined;
  }
}

/** In tgtd's form, so that its list of portals can be compared. */
function canonicalAddress(address: string): string {
  const canonical = isIP(address) === 6 ? new URL(`http://[${address}]`).hostname.slice(1, -1) : address;
  if (isIP(address) === 0 || canonical === '0.0.0.0' || canonical === '::') {
    throw new TargetError(
      'target.invalid_value',
      `"${address}" is not a portal address: give an IP address of this machine that initiators can reach`,
    );
  }
  return canonical;
}
