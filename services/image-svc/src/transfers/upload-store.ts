import { M2Error } from '@m2/contracts';
import { FileStore } from '@tus/file-store';
import type { Upload } from '@tus/server';
import { open, stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { asStorageError } from '@m2/storage';
import { writeSparse } from '../sources/sparse-write.js';

/**
 * The library's store, which keeps a file and a note for each upload, adapted to images: zeros take no space, a full disk has its own
 * error, and acknowledged bytes survive a power cut.
 */
export class UploadStore extends FileStore {
  private readonly writes = new Set<Promise<number>>();

  constructor(directory: string) {
    super({ directory });
    // The length must be given at the start. An upload ends when its image is deleted or when the operation gives up.
    this.extensions = ['creation', 'creation-with-upload'];
  }

  /** One upload per image. It can start again until it is finished; then it is being imported. */
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

  /** Writes what comes and returns the new offset. Of a request that breaks off, the received part counts. */
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
      // The file's length is the offset, so it must not be ahead of what is on the disk.
      await file.truncate(at);
      await file.datasync();
      await file.close();
    }
    return at;
  }
}
