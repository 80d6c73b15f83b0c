import type { Operation } from '@m2/contracts';
import { Runner } from '@m2/saga';
import { KIT, type Kit, meter, Periodic } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import { z } from 'zod';

/** Told to all replicas: which operations changed. */
const changes = { subject: 'm2.live.operations' };
const operationIds = z.array(z.string());
/** Operations that change so soon after the first one are told of with it. */
const lingerMs = 20;
/** A change that nobody told of (a message was lost) is seen after this time. */
const everyMs = 2_000;

/** Tells watchers which operations changed, over NATS: a watcher may be connected to another replica than the one that runs its operation. */
export function changeTeller(kit: Pick<Kit, 'bus'>): (operation: string) => void {
  const changed = new Set<string>();
  const tell = () => {
    kit.bus.tell(changes, [...changed]);
    changed.clear();
  };
  return (operation) => {
    if (changed.size === 0) setTimeout(tell, lingerMs).unref();
    changed.add(operation);
  };
}

/**
 * Shows operations to those who watch them. The messages say only which; what changed is read once for all who watch, in one query for all
 * operations, and a lost message costs one poll.
 */
@Injectable()
export class Live {
  private readonly watched = new Map<string, Watched>();
  /** Operations that are to be read in the next round. */
  private readonly stale = new Set<string>();
  private rounds: Periodic | undefined;
  private listening: { unsubscribe(): void } | undefined;
  private polledAt = 0;

  constructor(
    @Inject(KIT) private readonly kit: Kit,
    @Inject(Runner) private readonly runner: Runner,
  ) {
    meter()
      .createObservableGauge('m2_operation_watchers', { description: 'Who watches operations, in this process' })
      .addCallback((result) => result.observe(this.watchers));
  }

  get watchers(): number {
    return [...this.watched.values()].reduce((sum, { watchers }) => sum + watchers.size, 0);
  }

  /** The operation as it is, and again after each change, until it ends or the signal says so. It listens from this call on. */
  watch(id: string, signal: AbortSignal): AsyncIterable<Operation> {
    signal.throwIfAborted();
    const watcher = new Watcher();
    const watched = this.watched.get(id) ?? this.begin(id);
    watched.watchers.add(watcher);
    signal.addEventListener('abort', () => this.leave(id, watcher), { once: true });
    this.refresh(id);
    return this.watching(id, watcher);
  }

  private async *watching(id: string, watcher: Watcher): AsyncGenerator<Operation> {
    try {
      for (let seen = await watcher.next(); seen; seen = await watcher.next()) {
        yield seen;
        if (seen.endedAt || seen.state === 'needs_attention') return;
      }
    } finally {
      this.leave(id, watcher);
    }
  }

  /** A replica in which nobody watches anything does not listen. */
  private begin(id: string): Watched {
    const watched = { watchers: new Set<Watcher>() };
    this.watched.set(id, watched);
    if (!this.rounds) {
      this.rounds = new Periodic({
        everyMs,
        work: () => this.round(),
        onError: (err) => this.kit.log.warn({ err }, 'operations cannot be shown for now'),
      });
      this.rounds.start();
      this.listening = this.kit.bus.connection.subscribe(changes.subject, {
        callback: (error, message) => {
          if (!error) this.hear(operationIds.safeParse(message.json()).data ?? []);
        },
      });
    }
    return watched;
  }

  private hear(ids: string[]): void {
    for (const id of ids) if (this.watched.has(id)) this.refresh(id);
  }

  private leave(id: string, watcher: Watcher): void {
    watcher.end();
    const watched = this.watched.get(id);
    if (!watched?.watchers.delete(watcher) || watched.watchers.size > 0) return;
    this.watched.delete(id);
    if (this.watched.size > 0) return;
    this.listening?.unsubscribe();
    void this.rounds?.stop();
    this.rounds = undefined;
  }

  private refresh(id: string): void {
    this.stale.add(id);
    this.rounds?.wake();
  }

  /** Reads what was told of and, when it is time, everything. */
  private async round(): Promise<void> {
    const isPoll = performance.now() - this.polledAt >= everyMs;
    if (isPoll) this.polledAt = performance.now();
    const ids = [...(isPoll ? this.watched.keys() : this.stale)];
    this.stale.clear();
    if (ids.length === 0) return;
    const found = new Map((await this.runner.store.findAll(ids)).map((operation) => [operation.id, operation]));
    for (const id of ids) {
      const operation = found.get(id);
      const text = JSON.stringify(operation ?? null);
      for (const watcher of this.watched.get(id)?.watchers ?? []) watcher.show(operation, text);
    }
  }
}

interface Watched {
  watchers: Set<Watcher>;
}

/** Who does not keep up misses what was in between, and sees what is. */
class Watcher {
  private seen: string | undefined;
  private newest: Operation | undefined;
  private isOver = false;
  private wake = (): void => {};

  /** `undefined`: it is not there any more. */
  show(operation: Operation | undefined, text: string): void {
    if (!operation) return this.end();
    if (text === this.seen) return;
    this.seen = text;
    this.newest = operation;
    this.wake();
  }

  /** The operation, when it is another than the one before. Undefined when there is nothing to see any more. */
  async next(): Promise<Operation | undefined> {
    if (!this.newest && !this.isOver) await new Promise<void>((resolve) => (this.wake = resolve));
    const { newest } = this;
    this.newest = undefined;
    return newest;
  }

  end(): void {
    this.isOver = true;
    this.wake();
  }
}
