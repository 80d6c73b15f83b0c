import koffi from 'koffi';
import type { Cluster } from './cluster.ts';
import { NativeError } from './native.ts';
import type { ProgressCallback } from './rbd.ts';

/** What an operation has besides its arguments. */
export interface Context {
  cluster: Cluster;
  /** Aborted when the caller wants no more of it. */
  signal: AbortSignal;
  /** Also the sign that an operation which takes long is alive. */
  progress(done: number, total: number): void;
}

const canceled = koffi.os.errno['ECANCELED']!;

/** For librbd's operations on every object of an image: they end with the negative number that the callback answers. */
export function progressOf(context: Context): ProgressCallback {
  return (done, total) => {
    context.progress(done, total);
    return context.signal.aborted ? -canceled : 0;
  };
}

/** Rejects what was cancelled, in loops of ours, as librbd's own do. */
export function throwIfCanceled(context: Context, call: string): void {
  if (context.signal.aborted) throw new NativeError(call, canceled);
}
