import koffi from 'koffi';
import type { Extent } from '../types.ts';
import type { Context } from './context.ts';
import type { Pointer } from './native.ts';
import { rbdDiff } from './rbd-io.ts';

const canceled = koffi.os.errno['ECANCELED']!;

export interface DiffOptions {
  /** The older of the two states; absent: everything that has data. */
  fromSnap?: string;
  /** Whole objects: with the fast-diff feature they come from the object map, without reading data. */
  wholeObject?: boolean;
  /** Include what a clone has from its parent. */
  includeParent?: boolean;
  /** The part of the image to look at; absent: all of it. */
  range?: { offset: number; length: number };
}

/** Calls `found` for every extent that differs, in the order of the image. */
export async function eachDifference(
  context: Context,
  image: Pointer,
  sizeBytes: number,
  { fromSnap, wholeObject = false, includeParent = true, range = { offset: 0, length: sizeBytes } }: DiffOptions,
  found: (extent: Extent) => void,
): Promise<void> {
  const callback = (offset: number, length: number, exists: number) => {
    found({ offset, length, exists: exists === 1 });
    context.progress(offset, sizeBytes);
    return context.signal.aborted ? -canceled : 0;
  };
  const { offset, length } = range;
  const [parent, whole] = [Number(includeParent), Number(wholeObject)];
  await rbdDiff(image, fromSnap ?? null, offset, length, parent, whole, callback, null);
}
