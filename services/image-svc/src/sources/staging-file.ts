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
  /** `total` is unknown when the source does not say. */
  onProgress?: ((done: number, total: number | undefined) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** What the bytes are the beginning of: as long as its validator is the same, so are they (RFC 9110, 8.8). */
const partOf = z.object({ validator: z.string(), total: z.number().optional() });
export type PartOf = z.infer<typeof partOf>;
const note = partOf.extend({ bytes: z.number() });

const notePath = (path: string) => `${path}.part`;

/**
 * The file that an image is fetched into, hashed on its way. Beside it is a note of how far it is, once `keep` was called.
 * Errors of `write`: `image.too_large`, `storage.full`.
 */
export class StagingFile {
  /** Bytes received so far. */
  bytes = 0;
  /** Of what an earlier run left, and `keep` said. */
  partOf: PartOf | undefined;
  private hash: Hash = createHash('sha256');

  private constructor(
    private readonly path: string,
    private readonly file: FileHandle,
    private readonly options: StagingOptions,
  ) {}

  /** Begins a file. */
  static async create(path: string, options: StagingOptions): Promise<StagingFile> {
    try {
      await rm(notePath(path), { force: true });
      return new StagingFile(path, await open(path, 'w', 0o600), options);
    } catch (error) {
      throw asStorageError(error, 'stage the image');
    }
  }

  /** Goes on with what an earlier run kept, or begins. */
  static async resume(path: string, options: StagingOptions): Promise<StagingFile> {
    const kept = await readFile(notePath(path), 'utf8')
      .then((text) => note.parse(JSON.parse(text)))
      .catch(() => undefined);
    const file = kept && (await open(path, 'r+').catch(() => undefined));
    if (!kept || !file) return StagingFile.create(path, options);
    const staging = new StagingFile(path, file, options);
    try {
      // What came after the note is perhaps not on the disk; the file says longer than that in vain.
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

  /** Refuses early what the source itself says is too large. */
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

  /** What has come so far outlives this process, and the machine's next power cut. */
  async keep(of: PartOf): Promise<void> {
    try {
      await this.file.truncate(this.bytes);
      await this.file.datasync(); // before the note: it vouches for these bytes
      const path = notePath(this.path);
      await writeFile(`${path}.new`, JSON.stringify({ ...of, bytes: this.bytes }), { mode: 0o600, flush: true });
      await rename(`${path}.new`, path);
      this.partOf = of;
    } catch (error) {
      throw asStorageError(error, 'stage the image');
    }
  }

  /** Begins anew: the source changed under us, or cannot go on where it broke off. */
  async restart(): Promise<void> {
    await rm(notePath(this.path), { force: true }); // first: it does not vouch for what comes now
    this.partOf = undefined;
    await this.file.truncate(0);
    this.hash = createHash('sha256');
    this.bytes = 0;
  }

  /** The SHA-256 of everything, in hexadecimal. */
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

/** Removes a staged file and its note; what is not there is fine. */
export async function discardStaged(path: string): Promise<void> {
  for (const name of [notePath(path), `${notePath(path)}.new`, path]) await rm(name, { force: true });
}
