import { createHash } from 'node:crypto';
import { Locks } from '@m2/locks';
import {
  TargetError,
  type ExportSpec,
  type IsWanted,
  type ObservedExport,
  type Portal,
  type TargetDriver,
} from '../target.port.js';
import { checkIqn, checkSpec } from './export-values.js';
import { checkBacking, holdsFile, openFiles } from './backing-file.js';
import {
  createTarget,
  cutSessions,
  ensureNoTarget,
  isAsSpecified,
  type KnownTarget,
  listConnections,
  listTargets,
  replaceSecret,
} from './tgt-export.js';
import type { ListedTarget } from './tgt-listing.js';
import type { TgtInstance } from './tgt-instance.js';
import { stopAllTgtd, TgtPool, type TgtConfig } from './tgt-pool.js';

interface Known extends KnownTarget {
  /** A digest of the secret that this process gave it: tgtd does not show secrets. */
  secret?: string;
}

/** Exports files through tgtd (package tgt): one process per pool, controlled over its management socket. */
export class TgtDriver implements TargetDriver {
  /** One lock per pool. */
  private readonly locks = new Locks();
  /** What is known of the targets of each tgtd, by name, so that nobody has to list a pool for one of them. */
  private readonly known = new WeakMap<TgtInstance, Map<string, Known>>();

  private constructor(
    private readonly config: TgtConfig,
    private readonly pool: TgtPool,
    private readonly isWanted: IsWanted,
  ) {}

  /**
   * Takes over the tgtd processes that run with this state directory. One driver per state directory at a time. Throws
   * `target.invalid_value` for a configuration that cannot work.
   */
  static async open(config: TgtConfig, isWanted: IsWanted): Promise<TgtDriver> {
    return new TgtDriver(config, await TgtPool.open(config), isWanted);
  }

  async ensureExport(spec: ExportSpec): Promise<{ portals: Portal[]; lun: 1 }> {
    checkSpec(spec);
    // Before the turn: it starts a process, and waits for a medium that may hang.
    await checkBacking(spec);
    return this.inTurn(spec.pool, async () => {
      const instance = await this.pool.claim(spec.pool);
      await this.ensureTarget(instance, spec);
      return { portals: this.pool.portals(instance), lun: 1 };
    });
  }

  async ensureNoExport(pool: string, iqn: string): Promise<void> {
    checkIqn(iqn);
    await this.inTurn(pool, async () => {
      const instance = this.pool.find(pool);
      if (!instance) return;
      if (instance.alive) await this.removeTarget(instance, iqn);
      // A tgtd that died, or was just started again, has none of the exports that are still to be put back on its port.
      if (!(await this.isWanted(pool))) await this.pool.release(pool);
    });
  }

  async dropSessions(pool: string, iqn: string): Promise<number> {
    return this.inTurn(pool, async () => {
      const instance = this.pool.find(pool);
      if (!instance?.alive) return 0;
      let dropped = 0;
      for (const target of (await this.list(instance)).filter((it) => it.iqn === iqn)) {
        const cut = await cutSessions(instance.client, target.tid);
        dropped += cut ?? target.sessions;
        if (cut === undefined) await this.abandon(instance);
      }
      return dropped;
    });
  }

  pools(): string[] {
    return this.pool.pools();
  }

  async observe(only?: string): Promise<ObservedExport[]> {
    const pools = only === undefined ? this.pool.pools() : [only];
    const found = await Promise.all(pools.map((pool) => this.inTurn(pool, () => this.observePool(pool))));
    return found.flat();
  }

  onInstanceLost(listener: (pool: string) => void): void {
    this.pool.onLost(listener);
  }

  async close(): Promise<void> {
    await this.locks.settled();
    await this.pool.close();
  }

  /** Closes the driver and ends every tgtd with all exports: for the end of an installation, or of a test. */
  async stopAll(): Promise<void> {
    await this.close();
    await stopAllTgtd(this.config.stateDir);
  }

  private async ensureTarget(instance: TgtInstance, spec: ExportSpec): Promise<void> {
    const { client } = instance;
    const known = this.knownOf(instance);
    const secret = createHash('sha256').update(`${spec.chap.user}\0${spec.chap.secret}`).digest('hex');
    const created = (tid: number) => known.set(spec.iqn, { tid, accounts: [spec.chap.user], secret });
    // Creates first and looks only on failure: a new export, the common case, needs no listing, whose length grows with the pool.
    const tid = await createTarget(client, spec);
    if (tid !== undefined) return void created(tid);
    const found = (await this.list(instance)).filter(({ iqn }) => iqn === spec.iqn);
    const right = found.length === 1 && isAsSpecified(found[0]!, spec) ? found[0] : undefined;
    if (right && (await holdsFile(await openFiles(instance.pid), spec.backing.path))) {
      if (known.get(spec.iqn)?.secret !== secret) await replaceSecret(client, right.tid, spec);
      return void created(right.tid);
    }
    // Incomplete or different: created again rather than edited, so that there is only one order of steps.
    await this.removeTarget(instance, spec.iqn);
    const again = await createTarget(client, spec);
    if (again === undefined) {
      throw new TargetError('target.exists', `tgtd ${instance.pid} has another target of this name: ${spec.iqn}`);
    }
    created(again);
  }

  private async removeTarget(instance: TgtInstance, iqn: string): Promise<void> {
    const known = this.knownOf(instance);
    const target = known.get(iqn);
    known.delete(iqn);
    await ensureNoTarget(instance.client, iqn, target, () => this.abandon(instance));
  }

  private async list(instance: TgtInstance): Promise<ListedTarget[]> {
    const targets = await listTargets(instance.client);
    const before = this.knownOf(instance);
    const now = new Map<string, Known>();
    const names = Map.groupBy(targets, ({ iqn }) => iqn);
    const owners = Map.groupBy(
      targets.flatMap(({ accounts }) => accounts),
      (account) => account,
    );
    for (const { iqn, tid, accounts } of targets) {
      // Of several with one name none is known, nor one with an account that another has: their removal looks.
      const alone = names.get(iqn)!.length === 1 && accounts.every((account) => owners.get(account)!.length === 1);
      const secret = before.get(iqn)?.tid === tid ? before.get(iqn)?.secret : undefined;
      if (alone) now.set(iqn, { tid, accounts, ...(secret !== undefined && { secret }) });
    }
    this.known.set(instance, now);
    return targets;
  }

  private knownOf(instance: TgtInstance): Map<string, Known> {
    const known = this.known.get(instance) ?? new Map<string, Known>();
    this.known.set(instance, known);
    return known;
  }

  /**
   * Ends a tgtd that hangs, or cannot end a session: the initiator died with data on the way to it, so that tgtd waits for TCP to give up
   * (a quarter of an hour), or storage does not finish a command. The pool's other exports and their initiators come back as after any
   * crash; a disk that two nodes have written to does not.
   */
  private async abandon(instance: TgtInstance): Promise<void> {
    await instance.kill();
    this.pool.watch();
  }

  private async observePool(pool: string): Promise<ObservedExport[]> {
    const instance = this.pool.find(pool);
    if (!instance?.alive) return [];
    try {
      const targets = await this.list(instance);
      const files = await openFiles(instance.pid);
      const observed: ObservedExport[] = [];
      for (const { tid, iqn, luns, acl, accounts, sessions } of targets) {
        const path = luns.find(({ lun }) => lun === 1)?.path ?? null;
        // In a separate request: in the listing, initiators write into this part.
        const connections = sessions > 0 ? await listConnections(instance.client, tid) : [];
        observed.push({
          iqn,
          tid,
          pool,
          backingPath: path !== null && (await holdsFile(files, path)) ? path : null,
          initiators: acl,
          accounts,
          sessions: connections.map(({ initiator, address }) => ({ initiator, ...(address && { address }) })),
        });
      }
      return observed;
    } catch (error) {
      // A tgtd that hangs must not hide the others. Whoever wants an export of it gets the error.
      if (error instanceof TargetError && error.code === 'target.unreachable') return [];
      throw error;
    }
  }

  private inTurn<Result>(pool: string, work: () => Promise<Result>): Promise<Result> {
    return this.locks.exclusive(pool, () =>
      work().catch(async (error: unknown) => {
        if (error instanceof TargetError && error.code === 'target.unreachable') await this.endHung(pool);
        throw error;
      }),
    );
  }

  /**
   * A tgtd that did not answer is dead, or its only thread for all targets hangs and never comes back. Either way it is reported as lost
   * now, and started again when an export is put back.
   */
  private async endHung(pool: string): Promise<void> {
    const instance = this.pool.find(pool);
    if (instance) await this.abandon(instance);
  }
}
