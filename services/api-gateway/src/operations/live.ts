import { KIT, type Kit } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import { EventEmitter, on } from 'node:events';

const subjectOf = (operation: string) => `m2.live.operation.${operation}`;

/**
 * Tells watchers that an operation changed, over NATS, because the watcher may be connected to another replica than the one that runs
 * it. The message carries nothing: a watcher reads the operation again, and a lost message costs it one poll.
 */
@Injectable()
export class Live {
  constructor(@Inject(KIT) private readonly kit: Kit) {}

  changed(operation: string): void {
    this.kit.bus.tell({ subject: subjectOf(operation) }, {});
  }

  /** Yields after each change of the operation, and every `everyMs` in any case. It listens from this call on. */
  changes(operation: string, everyMs: number, signal: AbortSignal): AsyncGenerator<void> {
    signal.throwIfAborted();
    const arrivals = new EventEmitter();
    const tell = () => void arrivals.emit('change');
    // Only what is watched is listened to: an operation that nobody watches costs one message that nobody gets.
    const subscription = this.kit.bus.connection.subscribe(subjectOf(operation), { callback: tell });
    const tick = setInterval(tell, everyMs);
    const stop = () => {
      clearInterval(tick);
      subscription.unsubscribe();
    };
    return until(on(arrivals, 'change', { signal }), signal, stop);
  }
}

async function* until(changes: AsyncIterator<unknown>, signal: AbortSignal, stop: () => void): AsyncGenerator<void> {
  try {
    while (!(await changes.next()).done) yield;
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    stop();
  }
}
