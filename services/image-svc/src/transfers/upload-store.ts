import { M2Error } from '@m2/contracts';
import { FileStore } from '@tus/file-store';
import type { Upload } from '@tus/server';
import { open, stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { asStorageError } from '@m2/storage';
import { writeSparse } from '../sources/sparse-write.js';

/**
 * The library's store, a file and a note beside it per upload, with what an image needs: zeros take no space, a full disk is called so,
 * and what was acknowledged outlives a power cut.
 */
export class UploadStore extends FileStore {
  private readonly writes = new Set<Promise<number>>();

  constructor(directory: string) {
    super({ directory });
    // An upload says its length first, is ended by deleting its image, and expires when whoever waits for it says so.
    this.extensions = ['creation', 'creation-with-upload'];
  }

  /** One upload per image: it may be begun anew until it is finished; then it is being imported. */
  override async create(upload: Upload): Promise<Upload> {
    const there = await this.find(upload.id);
    if (there && there.offset === there.size) {
      throw new M2Error('image.not_waiting', 'The image has been uploaded already');
    }
    return super.create(upload);
  }

  /** An upload, finished or not, and since when nothing came. */
  async find(id: string): Promise<{ path: string; offset: number; size: number; changedAt: Date } | undefined> {
    const upload = await this.getUpload(id).catch(() => undefined);
    const path = upload?.storage?.path;
    if (upload?.size === undefined || path === undefined) return undefined;
    const file = await stat(path).catch(() => undefined);
    return file && { path, offset: upload.offset, size: upload.size, changedAt: file.mtime };
  }

  /** How far an upload is after what comes is written. A request that breaks off counts as far as it came. */
  override write(stream: Readable, id: string, offset: number): Promise<number> {
    const work = this.append(stream, id, offset).finally(() => this.writes.delete(work));
    this.writes.add(work);
    return work;
  }

  /** Returns when nothing is written any more. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.writes);
  }

  private async append(stream: Readable, id: string, offset: number): Promise<number> {
    const { storage } = await this.getUpload(id);
    const file = await open(storage?.path as string, 'r+');
    let at = offset;
    try {
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        await writeSparse(file, chunk, at).catch((error: unknown) => {
          throw asStorageError(error, 'store the upload');
        });
        at += chunk.length;
      }
    } finally {
      // The file's length is how far the upload is, so it says no more than what is on the disk.
      await file.truncate(at);
      await file.datasync();
      await file.close();
    }
    return at;
  }
}
