import koffi from 'koffi';
import pLimit from 'p-limit';

export type Pointer = bigint;
/** Where C puts a result: it fills the first element. */
export type Out<T> = [T];

/** A C function returned a negative number, as librados and librbd do for every error. */
export class NativeError extends Error {
  readonly call: string;
  readonly errno: number;
  /** The cluster's message beside the number. */
  readonly text: string | undefined;

  constructor(call: string, errno: number, text?: string) {
    super(`${call}: errno ${errno}`);
    this.call = call;
    this.errno = errno;
    this.text = text;
  }
}

/** koffi throws when more than 256 calls are queued, so calls wait here. */
const admit = pLimit(128);

/**
 * Declares a C function. Each call runs on a thread of libuv's pool, so that this process can receive messages meanwhile. It rejects with
 * `NativeError` when the result is negative.
 */
export function declare<Args extends unknown[]>(
  library: ReturnType<typeof koffi.load>,
  prototype: string,
): (...args: Args) => Promise<number> {
  const native = library.func(prototype);
  const name = native.info.name;
  return (...args) =>
    admit(
      () =>
        new Promise((resolve, reject) => {
          native.async(...args, (error: unknown, result: number | bigint) => {
            if (error) reject(error as Error);
            else if (result < 0) reject(new NativeError(name, Number(-result)));
            else resolve(Number(result));
          });
        }),
    );
}

/**
 * Calls a function that returns ERANGE while its buffer is too small, with a larger buffer each time. It may put the needed length into
 * `size`, in its own units; that can be too small again when something was added meanwhile.
 */
export async function grow<T>(start: number, attempt: (size: Out<number>) => Promise<T>): Promise<T> {
  let length = start;
  for (;;) {
    const size: Out<number> = [length];
    try {
      return await attempt(size);
    } catch (error) {
      if (!(error instanceof NativeError) || error.errno !== koffi.os.errno['ERANGE'] || length > maxEntries)
        throw error;
      length = Math.max(size[0], length * 2);
    }
  }
}

const maxEntries = 1 << 24;

/** The strings in a buffer; each ends with a NUL. */
export function splitStrings(buffer: Buffer, length: number): string[] {
  return buffer
    .toString('utf8', 0, length)
    .split('\0')
    .filter((text) => text !== '');
}
