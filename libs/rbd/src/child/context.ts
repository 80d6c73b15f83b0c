import koffi from 'koffi';
import type { Cluster } from './cluster.ts';
import { NativeError } from './native.ts';
import type { ProgressCallback } from './rbd.ts';

/** What an operation has besides its arguments. */
export interface Context {
  cluster: Cluster;
  /** Aborted when the caller wants no more of it. */
  signal: AbortSignal;
  /** It also shows that a long operation is alive. */
  progress(done: number, total: number): void;
}

const canceled = koffi.os.errno['ECANCELED']!;

/** For operations of librbd on every object of an image: they end with the negative number that the callback returns. */
export function progressOf(context: Context): ProgressCallback {
  return (done, total) => {
    context.progress(done, total);
    return context.signal.aborted ? -canceled : 0;
  };
}

/** Rejects what was cancelled; call it in our own loops, as librbd does in its own. */
export function throwIfCanceled(context: Context, call: string): void {
  if (context.signal.aborted) throw new NativeError(call, canceled);
}
