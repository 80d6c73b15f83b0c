import { setMaxListeners } from 'node:events';
import { v7 as uuidv7 } from 'uuid';
import type { Database, Session } from './database.js';
import { LeaseLost, leaseSeconds } from './lease-lost.js';
import type { Logger } from './log.js';
import { Periodic } from './periodic.js';

const beatMs = 3_000;
/** A process lets go that much earlier than others may take: clocks do not run alike, and a statement may be late. */
const marginMs = 2_000;
const believedMs = leaseSeconds * 1_000 - marginMs;

/** From a registration to its end. What is held belongs to it, and never to the next one of the same process. */
export class Lifetime {
  readonly id = uuidv7();
  private readonly ending = new AbortController();
  private endsAt: number;

  /** `sentAt`: when the statement was sent that others count from. */
  constructor(sentAt: number) {
    this.endsAt = sentAt + believedMs;
    setMaxListeners(0, this.ending.signal);
  }

  /** Aborts when this lifetime ends, with a `LeaseLost`. */
  get signal(): AbortSignal {
    return this.ending.signal;
  }

  /** Throws LeaseLost. By this process's own clock, so it is right also in the first moment after a standstill. */
  assert(): void {
    if (this.isOver) this.end('This process was silent for too long');
    this.signal.throwIfAborted();
  }

  get isOver(): boolean {
    return this.signal.aborted || performance.now() >= this.endsAt;
  }

  /** A heartbeat that is answered after the end does not count: others may have taken what was held. */
  renew(sentAt: number): boolean {
    if (this.isOver) return false;
    this.endsAt = sentAt + believedMs;
    return true;
  }

  end(why: string): void {
    this.ending.abort(new LeaseLost(why));
  }

  get remainingMs(): number {
    return this.endsAt - performance.now();
  }
}

/**
 * This process among those that share its schema. One heartbeat, for all that it holds: a lease is a row that belongs to a lifetime, and is as good as
 * the lifetime. A process that is silent for too long (paused, cut off) ends its lifetime by its own clock, before anybody takes what it held, and
 * begins a new one when it can.
 *
 * The connection of its own holds a lock on the process's name. Nothing is safe by that lock; it only tells a process that starts that an
 * earlier one of its name is dead, so that it need not wait for the end of that one's lifetime.
 */
export class Life {
  private lifetime: Lifetime | undefined;
  private connection: Session | undefined;
  private readonly beats: Periodic;
  private expiry: NodeJS.Timeout | undefined;
  /** Leases that could not be given back. */
  private readonly left = new Set<string>();
  /** Those that the heartbeat under way gives back. */
  private leaving: { names: string[]; over: Promise<unknown> } | undefined;
  private alone = false;
  /** The connection has the lock on the name. */
  private hasName = false;
  private readonly listeners: (() => void)[] = [];
  /** Processes that others may take over from, as they were at the last heartbeat. */
  private silent = new Set<string>();
  private readonly silenceListeners: (() => void)[] = [];

  private constructor(
    private readonly database: Database,
    private readonly instance: string,
    private readonly log: Logger,
  ) {
    this.beats = new Periodic({
      everyMs: beatMs,
      work: () => this.beat(),
      onError: (err) => log.warn({ err }, 'the heartbeat failed; it is tried again'),
    });
  }

  /** Begins a lifetime. `instance` is the name of the replica. */
  static async begin(database: Database, instance: string, log: Logger): Promise<Life> {
    const life = new Life(database, instance, log);
    const connection = await life.connect();
    if (!life.alone)
      log.warn(
        { instance },
        'another process has this name; when one of them dies, what it held is free only after a while',
      );
    await life.register(connection, life.alone ? instance : null);
    return life;
  }

  /** Says from now on, again and again, that this process lives. */
  start(): void {
    this.beats.start();
  }

  get current(): Lifetime {
    if (!this.lifetime) throw new Error('This life has not begun');
    return this.lifetime;
  }

  /** When this process started, no other one of its name lived. */
  get wasAlone(): boolean {
    return this.alone;
  }

  /** Calls back whenever a lifetime had ended and another has begun. */
  onRenewed(listener: () => void): void {
    this.listeners.push(listener);
  }

  /** Calls back when another process has been silent for as long as a lease: it was paused, cut off, or killed. */
  onSilence(listener: () => void): void {
    this.silenceListeners.push(listener);
  }

  /** Gives a lease back with the next heartbeat. */
  giveBackLater(name: string): void {
    this.left.add(name);
  }

  /** To be asked before a name is taken: a lease that was to be given back is not, any more. */
  async keepsAgain(name: string): Promise<void> {
    this.left.delete(name);
    if (this.leaving?.names.includes(name)) await this.leaving.over;
  }

  /** Everything that is held is free at once. */
  async end(): Promise<void> {
    await this.beats.stop();
    clearTimeout(this.expiry);
    this.current.end('This process ends');
    await this.database
      .query('DELETE FROM m2_processes WHERE id = $1', [this.current.id])
      .catch((err: unknown) => this.log.warn({ err }, 'what this process holds is free when its lease ends'));
    this.disconnect();
  }

  private disconnect(): void {
    this.connection?.release(true);
    this.connection = undefined;
  }

  private async connect(): Promise<Session> {
    if (this.connection) return this.connection;
    const connection = await this.database.session();
    try {
      const [lock] = await connection.query<{ mine: boolean }>(
        `SELECT pg_try_advisory_lock(hashtextextended('m2 process ' || current_schema() || ' ' || $1, 0)) AS mine`,
        [this.instance],
      );
      this.hasName = lock!.mine;
      if (!this.lifetime) this.alone = lock!.mine;
    } catch (error) {
      connection.release(true);
      throw error;
    }
    return (this.connection = connection);
  }

  /** Begins a lifetime. Those of `dead`, a name, have ended. */
  private async register(connection: Session, dead: string | null): Promise<void> {
    const lifetime = new Lifetime(performance.now());
    await connection.query(
      `WITH ended AS (DELETE FROM m2_processes WHERE instance = $3)
       INSERT INTO m2_processes (id, instance) VALUES ($1, $2)`,
      // Who has not the name is not ended by the next one that gets it.
      [lifetime.id, this.hasName ? this.instance : `${this.instance} ${lifetime.id}`, dead],
    );
    this.lifetime = lifetime;
    this.left.clear();
    this.watch();
  }

  /** One heartbeat. Begins another lifetime when this one has ended. */
  async beat(): Promise<void> {
    try {
      await this.renew();
    } catch (error) {
      this.disconnect();
      throw error;
    }
  }

  private async renew(): Promise<void> {
    const lifetime = this.current;
    const connection = await this.connect();
    // One that is over must not seem to live: what it held would be kept from everybody.
    if (!lifetime.isOver && (await this.isRenewed(connection, lifetime))) return this.watch();
    lifetime.end('This process was silent for too long');
    this.log.warn({ instance: this.instance }, (lifetime.signal.reason as Error).message);
    await this.register(connection, null);
    for (const listener of this.listeners) listener();
  }

  private async isRenewed(connection: Session, lifetime: Lifetime): Promise<boolean> {
    const left = [...this.left];
    const sentAt = performance.now();
    const answer = connection.query<{ silent: string[] }>(
      `WITH freed AS (DELETE FROM m2_leases WHERE owner = $1 AND name = ANY($2))
       UPDATE m2_processes SET seen_at = now() WHERE id = $1
       RETURNING ARRAY(SELECT p.id FROM m2_processes p WHERE p.id <> $1 AND NOT m2_lives(p.id)) AS silent`,
      [lifetime.id, left],
    );
    this.leaving = { names: left, over: answer.catch(() => {}) };
    const rows = await answer;
    if (rows[0]) this.notice(rows[0].silent);
    for (const name of left) this.left.delete(name);
    if (rows.length === 0) lifetime.end('Another process of this name has started');
    return lifetime.renew(sentAt);
  }

  private notice(silent: string[]): void {
    const isNew = silent.some((id) => !this.silent.has(id));
    this.silent = new Set(silent);
    if (isNew) for (const listener of this.silenceListeners) listener();
  }

  /** Ends the lifetime at its time when no heartbeat comes through. */
  private watch(): void {
    const lifetime = this.current;
    clearTimeout(this.expiry);
    this.expiry = setTimeout(() => {
      if (lifetime.remainingMs > 0) return;
      lifetime.end('The database did not hear of this process for too long');
    }, lifetime.remainingMs + 1).unref();
  }
}
