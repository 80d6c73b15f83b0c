import type { AuditEvent } from '@m2/contracts';
import { Periodic } from '@m2/service-kit';

/** How many events wait in memory for one follower. One that is further behind reads on from the database, at its own pace. */
const roomForOne = 500;
/** Events that another replica took in, and that nobody told of, are seen after this time. */
const everyMs = 1_000;

/** A follower's place at the tail. Whatever comes after `from` comes here, until it has fallen behind. */
export interface Place {
  /** Where the tail was when the follower joined: what came before is read elsewhere. */
  readonly from: string;
  /** What has come since the last call; waits for something. Undefined when there is no more: the follower fell behind, or has left. */
  next(): Promise<AuditEvent[] | undefined>;
  /** Up to here everything was given to the follower, or was none of its business. */
  readonly seen: string;
  leave(): void;
}

interface TailOptions {
  /** The sequence of the newest event. */
  last(): Promise<string>;
  /** The events after a sequence, oldest first: all of them, or the first `limit`. */
  after(sequence: string, limit: number): Promise<AuditEvent[]>;
  /** Calls back when events have come, until it is stopped. */
  listen(onEvents: () => void): { stop(): void };
  onError(error: unknown): void;
}

const batch = 500;

/**
 * Reads new events once, for all who follow: each wake-up costs one query, whatever the number of followers, and none while nobody follows.
 * Wake-ups that come during a query are one wake-up.
 */
export class EventTail {
  private reading: Reading | undefined;

  constructor(private readonly options: TailOptions) {}

  get followers(): number {
    return this.reading?.size ?? 0;
  }

  /** Joins those who follow, at what the newest event is now. `wants` says which events are a follower's business. */
  join(wants: (event: AuditEvent) => boolean): Promise<Place> {
    const reading = (this.reading ??= new Reading(this.options));
    return reading.join(wants, () => {
      if (reading.size > 0) return;
      reading.stop();
      if (this.reading === reading) this.reading = undefined;
    });
  }
}

/** From the first follower to the last one. */
class Reading {
  private position: string | undefined;
  private readonly places = new Set<OnePlace>();
  private readonly joining = new Map<OnePlace, PromiseWithResolvers<Place>>();
  private readonly rounds: Periodic;
  private readonly listening: { stop(): void };

  constructor(private readonly options: TailOptions) {
    this.rounds = new Periodic({
      everyMs,
      work: (signal) => this.round(signal),
      onError: (error) => this.failed(error),
    });
    this.rounds.start();
    this.listening = options.listen(() => this.rounds.wake());
  }

  get size(): number {
    return this.places.size + this.joining.size;
  }

  join(wants: (event: AuditEvent) => boolean, onLeave: () => void): Promise<Place> {
    const place = new OnePlace(wants, () => {
      this.places.delete(place);
      this.joining.delete(place);
      onLeave();
    });
    const joined = Promise.withResolvers<Place>();
    this.joining.set(place, joined);
    this.rounds.wake();
    return joined.promise;
  }

  stop(): void {
    this.listening.stop();
    void this.rounds.stop();
  }

  private async round(signal: AbortSignal): Promise<void> {
    // Who comes during this round waits for the next: it may have passed events that were there before that one came.
    const joining = [...this.joining];
    this.position ??= await this.options.last();
    for (let more = true; more && !signal.aborted;) {
      const events = await this.options.after(this.position, batch);
      for (const event of events) {
        this.position = event.sequence;
        for (const place of this.places) place.take(event);
      }
      more = events.length === batch;
    }
    for (const [place, { resolve }] of joining) {
      if (!this.joining.delete(place)) continue;
      place.begin(this.position);
      this.places.add(place);
      resolve(place);
    }
  }

  /** Those who follow wait for the next round; those who came are refused while they still can be. */
  private failed(error: unknown): void {
    this.options.onError(error);
    for (const [place, { reject }] of this.joining) {
      reject(error);
      place.leave();
    }
  }
}

class OnePlace implements Place {
  from = '0';
  seen = '0';
  private waiting: AuditEvent[] = [];
  private isOver = false;
  private wake = (): void => {};

  constructor(
    private readonly wants: (event: AuditEvent) => boolean,
    private readonly onLeave: () => void,
  ) {}

  begin(at: string): void {
    this.from = at;
    this.seen = at;
  }

  take(event: AuditEvent): void {
    if (this.isOver) return;
    const isWanted = this.wants(event);
    if (isWanted && this.waiting.length === roomForOne) return this.leave();
    this.seen = event.sequence;
    if (!isWanted) return;
    this.waiting.push(event);
    this.wake();
  }

  async next(): Promise<AuditEvent[] | undefined> {
    if (this.waiting.length === 0 && !this.isOver) await new Promise<void>((resolve) => (this.wake = resolve));
    return this.waiting.length > 0 ? this.waiting.splice(0) : undefined;
  }

  leave(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.onLeave();
    this.wake();
  }
}
