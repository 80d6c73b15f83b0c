import { createHash } from 'node:crypto';
import type { Hash } from 'node:crypto';
import { open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { z } from 'zod';
import { asStorageError } from '@m2/storage';
import { ImageError } from '@m2/storage';
import { hashFile } from './hash-file.js';
import { writeSparse } from './sparse-write.js';

export interface StagingOptions {
  maxBytes: number;
  /** `total` is undefined when the source does not say it. */
  onProgress?: ((done: number, total: number | undefined) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** What identifies the source of a partial file. While the validator is the same, the bytes are the same (RFC 9110, 8.8). */
const partOf = z.object({ validator: z.string(), total: z.number().optional() });
export type PartOf = z.infer<typeof partOf>;
const note = partOf.extend({ bytes: z.number() });

const notePath = (path: string) => `${path}.part`;

/**
 * The file that an image is fetched into, and its SHA-256. After `keep`, a note beside the file says how far it is. Errors of `write`:
 * `image.too_large`, `storage.full`.
 */
export class StagingFile {
  /** Bytes received so far. */
  bytes = 0;
  /** The source of what an earlier run kept. */
  partOf: PartOf | undefined;
  private hash: Hash = createHash('sha256');

  private constructor(
    private readonly path: string,
    private readonly file: FileHandle,
    private readonly options: StagingOptions,
  ) {}

  /** Creates an empty file. */
  static async create(path: string, options: StagingOptions): Promise<StagingFile> {
    try {
      await rm(notePath(path), { force: true });
      return new StagingFile(path, await open(path, 'w', 0o600), options);
    } catch (error) {
      throw asStorageError(error, 'stage the image');
    }
  }

  /** Goes on with what an earlier run kept, or creates an empty file. */
  static async resume(path: string, options: StagingOptions): Promise<StagingFile> {
    const kept = await readFile(notePath(path), 'utf8')
      .then((text) => note.parse(JSON.parse(text)))
      .catch(() => undefined);
    const file = kept && (await open(path, 'r+').catch(() => undefined));
    if (!kept || !file) return StagingFile.create(path, options);
    const staging = new StagingFile(path, file, options);
    try {
      // Bytes after the note may not have reached the disk, so a longer file does not count.
      if ((await file.stat()).size < kept.bytes) await staging.restart();
      else {
        await file.truncate(kept.bytes);
        staging.hash = await hashFile(file, options.signal);
        staging.bytes = kept.bytes;
        staging.partOf = kept;
      }
      return staging;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Refuses a size that the source announces, before anything is received. */
  announce(total: number | undefined): void {
    if (total !== undefined && total > this.options.maxBytes) throw this.tooLarge();
  }

  async write(chunk: Buffer, total: number | undefined): Promise<void> {
    if (this.bytes + chunk.length > this.options.maxBytes) throw this.tooLarge();
    try {
      await writeSparse(this.file, chunk, this.bytes);
    } catch (error) {
      throw asStorageError(error, 'stage the image');
    }
    this.hash.update(chunk);
    this.bytes += chunk.length;
    this.options.onProgress?.(this.bytes, total);
  }

  /** Makes what was received survive this process, and a power cut. */
  async keep(of: PartOf): Promise<void> {
    try {
      await this.file.truncate(this.bytes);
      await this.file.datasync(); // before the note, which promises these bytes
      const path = notePath(this.path);
      await writeFile(`${path}.new`, JSON.stringify({ ...of, bytes: this.bytes }), { mode: 0o600, flush: true });
      await rename(`${path}.new`, path);
      this.partOf = of;
    } catch (error) {
      throw asStorageError(error, 'stage the image');
    }
  }

  /** Starts from zero: the source changed, or cannot go on where it stopped. */
  async restart(): Promise<void> {
    await rm(notePath(this.path), { force: true }); // first: the note does not apply to the new bytes
    this.partOf = undefined;
    await this.file.truncate(0);
    this.hash = createHash('sha256');
    this.bytes = 0;
  }

  /** The SHA-256 of the whole file, in hexadecimal. */
  async finish(): Promise<string> {
    await this.file.truncate(this.bytes);
    return this.hash.digest('hex');
  }

  async close(): Promise<void> {
    await this.file.close();
  }

  private tooLarge(): ImageError {
    return new ImageError(
      'image.too_large',
      `The image has more than ${this.options.maxBytes} bytes. Shrink it, or ask the operator to raise the limit.`,
    );
  }
}

/** Removes a staged file and its note. Files that are not there are fine. */
export async function discardStaged(path: string): Promise<void> {
  for (const name of [notePath(path), `${notePath(path)}.new`, path]) await rm(name, { force: true });
}
