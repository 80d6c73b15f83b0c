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
  private readonly emitter = new EventEmitter().setMaxListeners(0);

  constructor(@Inject(KIT) private readonly kit: Kit) {
    kit.bus.connection.subscribe(subjectOf('*'), {
      callback: (_error, message) => {
        this.emitter.emit(message.subject);
      },
    });
  }

  changed(operation: string): void {
    this.kit.bus.tell({ subject: subjectOf(operation) }, {});
  }

  /** Yields after each change of the operation, and every `everyMs` in any case. */
  async *changes(operation: string, everyMs: number, signal: AbortSignal): AsyncGenerator<void> {
    const subject = subjectOf(operation);
    const tick = setInterval(() => this.emitter.emit(subject), everyMs);
    try {
      for await (const _ of on(this.emitter, subject, { signal })) yield;
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      clearInterval(tick);
    }
  }
}
