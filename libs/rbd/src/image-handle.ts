import type { Call } from './connection.ts';
import type { CallOptions, Extent } from './types.ts';

/**
 * An open image or snapshot; any number of requests may be under way. It ends with the child that opened it: from then on everything except
 * `close` rejects with `unavailable`.
 */
export class ImageHandle {
  /** When the image was opened. */
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

  /** Reads fewer bytes than asked for at the end of the image. */
  read(offset: number, length: number, options?: CallOptions): Promise<Buffer> {
    return this.#call('handleRead', [this.#handle, offset, length], options);
  }

  /** Writes are on disk when they return. Error `invalid`: after the end, or read-only. */
  write(offset: number, data: Uint8Array, options?: CallOptions): Promise<void> {
    return this.#call('handleWrite', [this.#handle, offset, data], options);
  }

  /** Returns whole objects to the pool where possible. */
  writeZeroes(offset: number, length: number, options?: CallOptions): Promise<void> {
    return this.#call('handleWriteZeroes', [this.#handle, offset, length], options);
  }

  flush(options?: CallOptions): Promise<void> {
    return this.#call('handleFlush', [this.#handle], options);
  }

  /**
   * The differences to a snapshot, or without one everything that has data, in the order of the image. `wholeObject` returns whole objects,
   * fast; `includeParent` (the default) includes what a clone has from its parent; `range` is the part to look at.
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
