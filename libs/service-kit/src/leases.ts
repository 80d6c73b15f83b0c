import { Locks } from '@m2/locks';
import { setTimeout as pause } from 'node:timers/promises';
import { type Database, isConnectionError, type Sql } from './database.js';
import { LeaseLost } from './lease-lost.js';
import type { Life, Lifetime } from './life.js';
import type { Logger } from './log.js';

/** What a process has while it holds a name. */
export interface Lease {
  /** Aborts when the lease is lost: the work must stop before its next act. */
  signal: AbortSignal;
  /** For the transaction that ends the work: as long as that runs, nobody else gets the name. Throws LeaseLost. */
  assertHeld(sql: Sql): Promise<void>;
}

interface Taking {
  /** `ours` is held by this process from now on, `held` is another's, and `lost` is this process itself: it counts as dead. */
  outcome: 'ours' | 'held' | 'lost';
}

const firstPollMs = 20;
const longestPollMs = 250;

/**
 * Names that one process at a time may hold, among all replicas of a service. Each is a row that belongs to a lifetime (see `Life`): it is given
 * back when the work ends, and free when its owner has died. Who waits holds no connection. Within this process, first come first served.
 */
export class Leases {
  private readonly turns = new Locks();
  private readonly watch: FreeWatch;
  /** Names that are held for good, and why there can be one holder only. */
  private readonly kept = new Map<string, string>();

  /** `onLost` is told when a name that was to be kept for good is another process's now: this process must end. */
  constructor(
    private readonly database: Database,
    private readonly life: Life,
    private readonly log: Logger,
    private readonly onLost: (error: Error) => void,
  ) {
    this.watch = new FreeWatch((names) => this.whichAreFree(names), log);
    life.onRenewed(() => {
      for (const [name, why] of this.kept) void this.takeAgain(name, why);
    });
  }

  /** Runs `work` while this process holds `name`. Rejects with the reason of `patience` when that aborts before the work has begun. */
  hold<T>(name: string, patience: AbortSignal, work: (lease: Lease) => Promise<T>): Promise<T> {
    return this.inTurn(
      name,
      () => patience,
      (lifetime) => this.take(name, lifetime),
      (_, lifetime) => this.during(name, lifetime, work),
    );
  }

  /** Runs `work`, unless another process holds `name`. */
  tryHold(name: string, work: (lease: Lease) => Promise<void>): Promise<void> {
    return this.turns.exclusive(name, async () => {
      const lifetime = this.life.current;
      lifetime.assert();
      const { outcome } = await this.taking(name, () => this.take(name, lifetime));
      if (outcome === 'ours') await this.during(name, lifetime, work);
    });
  }

  /**
   * Holds `name` for as long as this process lives. A dead process's lease is waited for; when the other one lives, it throws an error that says
   * `why` there can be one only.
   */
  async keep(name: string, why: string): Promise<void> {
    await this.takeForGood(name, why);
    this.kept.set(name, why);
  }

  /** Gives back a name that was to be kept. */
  async release(name: string): Promise<void> {
    this.kept.delete(name);
    await this.giveBack(name, this.life.current);
  }

  /** Those of the names that no living process holds. */
  async whichAreFree(names: string[]): Promise<string[]> {
    const rows = await this.database.query<{ name: string }>(
      `SELECT w.name FROM unnest($1::text[]) AS w(name)
       WHERE NOT EXISTS (SELECT 1 FROM m2_leases l WHERE l.name = w.name AND m2_lives(l.owner))`,
      [names],
    );
    return rows.map(({ name }) => name);
  }

  /** Waits for the turn in this process; then asks `take` until no other process has the name, and runs `work`. Throws LeaseLost. */
  inTurn<Taken extends { outcome: string }, T>(
    name: string,
    patience: () => AbortSignal,
    take: (lifetime: Lifetime) => Promise<Taken>,
    work: (taken: Taken, lifetime: Lifetime) => Promise<T>,
  ): Promise<T> {
    const attempt = async () => {
      for (;;) {
        const lifetime = this.life.current;
        lifetime.assert();
        const taken = await this.taking(name, () => take(lifetime));
        if (taken.outcome === 'lost') throw new LeaseLost('This process counts as dead');
        if (taken.outcome !== 'held') return work(taken, lifetime);
        await this.watch.untilFree(name, patience());
      }
    };
    return this.turns.exclusive(name, attempt, patience);
  }

  /** Never throws: what the database cannot be told now goes with a heartbeat. */
  async giveBack(name: string, lifetime: Lifetime): Promise<void> {
    if (lifetime.signal.aborted) return;
    await this.database
      .query('DELETE FROM m2_leases WHERE name = $1 AND owner = $2', [name, lifetime.id])
      .catch((err: unknown) => {
        this.life.giveBackLater(name);
        this.log.debug({ err, name }, 'a lease is given back with the next heartbeat');
      });
  }

  private async takeForGood(name: string, why: string): Promise<void> {
    for (let before: string | undefined; ; await pause(longestPollMs)) {
      const lifetime = this.life.current;
      lifetime.assert();
      const { outcome } = await this.taking(name, () => this.take(name, lifetime));
      if (outcome === 'ours') return;
      if (outcome === 'lost') throw new LeaseLost('This process counts as dead');
      const [holder] = await this.database.query<{ beat: string }>(
        `SELECT p.id || ' ' || p.seen_at AS beat FROM m2_leases l JOIN m2_processes p ON p.id = l.owner WHERE l.name = $1`,
        [name],
      );
      // Another heartbeat: it lives. Without one, the end of its lease is near.
      if (before && holder && holder.beat !== before) throw new Error(why);
      before ??= holder?.beat;
    }
  }

  /** When it fails, the name may be ours all the same: the answer may be what was lost. */
  private async taking<Taken>(name: string, take: () => Promise<Taken>): Promise<Taken> {
    await this.life.keepsAgain(name);
    try {
      return await take();
    } catch (error) {
      this.life.giveBackLater(name);
      throw error;
    }
  }

  /** In a new lifetime. */
  private async takeAgain(name: string, why: string): Promise<void> {
    try {
      await this.takeForGood(name, why);
    } catch (error) {
      // That lifetime has ended, too: the next one tries.
      if (error instanceof LeaseLost) return;
      if (!isConnectionError(error)) return this.onLost(error as Error);
      await pause(longestPollMs);
      return this.takeAgain(name, why);
    }
  }

  private async take(name: string, lifetime: Lifetime): Promise<Taking> {
    const [row] = await this.database.query<Taking>('SELECT m2_lease_take($1, $2) AS outcome', [name, lifetime.id]);
    return row!;
  }

  private async during<T>(name: string, lifetime: Lifetime, work: (lease: Lease) => Promise<T>): Promise<T> {
    try {
      return await work({
        signal: lifetime.signal,
        assertHeld: async (sql) => {
          lifetime.assert();
          await sql.query('SELECT m2_lease_assert($1, $2)', [name, lifetime.id]);
        },
      });
    } finally {
      await this.giveBack(name, lifetime);
    }
  }
}

/** Looks, for all who wait, whether the names that they wait for are free: one statement at a time, however many they are. */
class FreeWatch {
  private readonly waiting = new Map<string, Set<() => void>>();
  private pollMs = firstPollMs;
  private looking = false;

  constructor(
    private readonly whichAreFree: (names: string[]) => Promise<string[]>,
    private readonly log: Logger,
  ) {}

  /** Returns when the name is free, or was so a moment ago. Rejects with the reason of `patience`. */
  untilFree(name: string, patience: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    if (patience.aborted) {
      reject(patience.reason as Error);
      return promise;
    }
    const those = this.waiting.get(name) ?? new Set();
    const leave = () => {
      those.delete(resolve);
      if (those.size === 0) this.waiting.delete(name);
    };
    const giveUp = () => reject(patience.reason as Error);
    this.waiting.set(name, those.add(resolve));
    patience.addEventListener('abort', giveUp, { once: true });
    this.pollMs = firstPollMs;
    if (!this.looking) void this.look();
    return promise.finally(() => {
      patience.removeEventListener('abort', giveUp);
      leave();
    });
  }

  private async look(): Promise<void> {
    this.looking = true;
    while (this.waiting.size > 0) {
      await pause(this.pollMs);
      this.pollMs = Math.min(longestPollMs, this.pollMs * 2);
      try {
        for (const name of await this.whichAreFree([...this.waiting.keys()]))
          for (const wake of this.waiting.get(name) ?? []) wake();
      } catch (err) {
        this.log.debug({ err }, 'it is not known whether a lease is free; it is asked again');
      }
    }
    this.looking = false;
  }
}
