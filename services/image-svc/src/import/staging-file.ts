import { createHash } from 'node:crypto';
import type { Hash } from 'node:crypto';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { asStorageError } from '../backends/storage.port.js';
import { ImageError } from './errors.js';

const block = 64 * 1024;
const zeros = Buffer.alloc(block);

export interface StagingOptions {
  maxBytes: number;
  /** `total` is unknown when the source does not say. */
  onProgress?: ((done: number, total: number | undefined) => void) | undefined;
}

/** The file that an image is fetched into, hashed on its way. Errors of `write`: `image.too_large`, `storage.full`. */
export class StagingFile {
  /** Bytes received so far. */
  bytes = 0;
  private hash: Hash = createHash('sha256');

  private constructor(
    private readonly file: FileHandle,
    private readonly options: StagingOptions,
  ) {}

  static async create(path: string, options: StagingOptions): Promise<StagingFile> {
    try {
      return new StagingFile(await open(path, 'w', 0o600), options);
    } catch (error) {
      throw asStorageError(error, 'stage the image');
    }
  }

  /** Refuses early what the source itself says is too large. */
  announce(total: number | undefined): void {
    if (total !== undefined && total > this.options.maxBytes) throw this.tooLarge();
  }

  async write(chunk: Buffer, total: number | undefined): Promise<void> {
    if (this.bytes + chunk.length > this.options.maxBytes) throw this.tooLarge();
    try {
      // Zeros stay holes: a raw disk image is mostly empty, and staging needs no space for that.
      for (let at = 0; at < chunk.length; at += block) {
        const part = chunk.subarray(at, at + block);
        if (!part.equals(zeros.subarray(0, part.length))) await this.writeAll(part, this.bytes + at);
      }
    } catch (error) {
      throw asStorageError(error, 'stage the image');
    }
    this.hash.update(chunk);
    this.bytes += chunk.length;
    this.options.onProgress?.(this.bytes, total);
  }

  /** Begins anew: the source changed under us, or cannot go on where it broke off. */
  async restart(): Promise<void> {
    await this.file.truncate(0);
    this.hash = createHash('sha256');
    this.bytes = 0;
  }

  /** The SHA-256 of everything, in hexadecimal. */
  async finish(): Promise<string> {
    await this.file.truncate(this.bytes); // a hole at the end has not made the file longer
    return this.hash.digest('hex');
  }

  async close(): Promise<void> {
    await this.file.close();
  }

  private async writeAll(part: Buffer, position: number): Promise<void> {
    for (let done = 0; done < part.length;) {
      const { bytesWritten } = await this.file.write(part, done, part.length - done, position + done);
      done += bytesWritten;
    }
  }

  private tooLarge(): ImageError {
    return new ImageError(
      'image.too_large',
      `The image has more than ${this.options.maxBytes} bytes. Shrink it, or ask the operator to raise the limit.`,
    );
  }
}
