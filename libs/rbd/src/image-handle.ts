import type { Call } from './connection.ts';
import type { CallOptions, Extent } from './types.ts';

/**
 * An open image or snapshot; any number of requests may be under way. It ends with the child that has it open: from then
 * on everything but `close` rejects with `unavailable`.
 */
export class ImageHandle {
  /** As it was when the image was opened. */
  readonly sizeBytes: number;
  readonly objectBytes: number;
  readonly #handle: number;
  readonly #call: Call;

  constructor(opened: { handle: number; sizeBytes: number; objectBytes: number }, call: Call) {
    this.sizeBytes = opened.sizeBytes;
    this.objectBytes = opened.objectBytes;
    this.#handle = opened.handle;
    this.#call = call;
  }

  /** Answers fewer bytes than asked for where the image ends. */
  read(offset: number, length: number, options?: CallOptions): Promise<Buffer> {
    return this.#call('handleRead', [this.#handle, offset, length], options);
  }

  /** Writes are on disk when they return. Error `invalid`: beyond the end, or read-only. */
  write(offset: number, data: Uint8Array, options?: CallOptions): Promise<void> {
    return this.#call('handleWrite', [this.#handle, offset, data], options);
  }

  /** Gives whole objects back to the pool where it can. */
  writeZeroes(offset: number, length: number, options?: CallOptions): Promise<void> {
    return this.#call('handleWriteZeroes', [this.#handle, offset, length], options);
  }

  flush(options?: CallOptions): Promise<void> {
    return this.#call('handleFlush', [this.#handle], options);
  }

  /**
   * What differs from a snapshot, or without one all there is, in the order of the image. `wholeObject` answers in whole
   * objects, fast; `includeParent` (the default) counts what a clone has from its parent; `range` is the part to look at.
   */
  diff(
    from: {
      fromSnap?: string;
      wholeObject?: boolean;
      includeParent?: boolean;
      range?: { offset: number; length: number };
    } = {},
    options?: CallOptions,
  ): Promise<Extent[]> {
    return this.#call('handleDiff', [this.#handle, from], options);
  }

  /** Wait for the other calls first. Closing twice is no error. */
  close(options?: CallOptions): Promise<void> {
    return this.#call('handleClose', [this.#handle], options);
  }
}
