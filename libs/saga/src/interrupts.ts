import { type ErrorValue, M2Error, shown } from '@m2/contracts';
import { LostOperation } from './journal.js';
import { pause } from './pause.js';

/** A person asked that the operation stop. */
export class Cancelled extends Error {}

/** The error of an operation that was cancelled, perhaps when something had failed. */
export const cancelledWith = (failure: Error | undefined): ErrorValue => ({
  code: 'operation.cancelled',
  detail:
    failure instanceof M2Error
      ? `Cancelled on request, when it had failed: ${shown(failure.toValue()).detail}`
      : 'Cancelled on request',
});

export type Direction = 'do' | 'undo';

/** What can end a pause of an operation early: the runner stops, a person cancels, or something happened that a wait waits for. */
export class Interrupts {
  private readonly stopping = new AbortController();
  private readonly cancelling = new AbortController();
  private wakeUp = Promise.withResolvers<void>();

  stop(): void {
    this.stopping.abort(new LostOperation('the runner stops'));
  }

  cancel(): void {
    this.cancelling.abort(new Cancelled());
  }

  wake(): void {
    this.wakeUp.resolve();
    this.wakeUp = Promise.withResolvers();
  }

  /** Resolves with the next `wake`. */
  get woken(): Promise<void> {
    return this.wakeUp.promise;
  }

  get isCancelled(): boolean {
    return this.cancelling.signal.aborted;
  }

  /** Throws LostOperation when the runner stops. */
  throwIfStopped(): void {
    this.stopping.signal.throwIfAborted();
  }

  /** Throws LostOperation when the runner stops, and on the way on Cancelled when a person cancels. */
  async pause(ms: number, direction: Direction, earlier?: Promise<void>): Promise<void> {
    const ends = [this.stopping.signal, ...(direction === 'do' ? [this.cancelling.signal] : [])];
    for (const end of ends) end.throwIfAborted();
    const over = new AbortController();
    try {
      await Promise.race([pause(ms, AbortSignal.any([over.signal, ...ends])), ...(earlier ? [earlier] : [])]);
    } finally {
      over.abort();
    }
  }
}
