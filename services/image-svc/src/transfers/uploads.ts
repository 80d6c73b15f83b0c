import { M2Error } from '@m2/contracts';
import { ERRORS, Server } from '@tus/server';
import type { ServerOptions } from '@tus/server';
import { once } from 'node:events';
import { mkdir, rm } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { StorageError } from '@m2/storage';
import { UploadLocker } from './upload-locker.js';
import { UploadStore } from './upload-store.js';

export interface Upload {
  imageId: string;
  maxBytes: number;
}

export interface UploadProgress {
  done: number;
  total: number;
  /** When the last byte came. */
  changedAt: Date;
}

/** When a newer request of its client replaces a request, it has this long to bring what is on its way. */
const drainMs = 1_000;

/**
 * Uploads of images: tus 1.0.0 (tus.io, Resumable Upload Protocol) with the extensions creation and creation-with-upload. An upload has the
 * name of its image, so there is one per image, and no client chooses a file name. All state is on the disk.
 */
export class Uploads {
  private readonly tus: Server;
  private readonly locker = new UploadLocker();
  private readonly allowed = new WeakMap<IncomingMessage, Upload>();

  private constructor(
    private readonly store: UploadStore,
    finished: (imageId: string, path: string) => void,
  ) {
    const uploadOf = (request: Parameters<NonNullable<ServerOptions['getFileIdFromRequest']>>[0]): Upload => {
      const node = (request as unknown as { runtime?: { node?: { req?: IncomingMessage } } }).runtime?.node?.req;
      const upload = node && this.allowed.get(node);
      if (!upload) throw new M2Error('auth.invalid', 'There is no ticket for this upload');
      return upload;
    };
    this.tus = new Server({
      path: '/upload',
      datastore: store,
      locker: this.locker,
      lockDrainTimeout: drainMs,
      namingFunction: (request) => uploadOf(request).imageId,
      getFileIdFromRequest: (request) => uploadOf(request).imageId,
      maxSize: (request) => uploadOf(request).maxBytes,
      // A relative URL is right at every door that the request came through.
      generateUrl: () => 'upload',
      allowedOrigins: [], // the gateway decides which web pages may ask
      onUploadFinish: async (_, { id, storage }) => {
        if (storage) finished(id, storage.path);
        return {};
      },
      // The library answers its own protocol errors. The caller answers the others, which are thrown from here.
      onResponseError: async (_, error) => {
        if ('status_code' in error && error.status_code === ERRORS.ERR_MAX_SIZE_EXCEEDED.status_code) {
          throw new M2Error(
            'image.too_large',
            'The upload has more bytes than an image may have, or than its Upload-Length',
          );
        }
        if (error === ERRORS.UNSUPPORTED_CREATION_DEFER_LENGTH_EXTENSION) {
          throw new M2Error('request.invalid', 'An upload must give its Upload-Length when it begins');
        }
        if (error instanceof M2Error || error instanceof StorageError || !('status_code' in error)) throw error;
        return undefined;
      },
    });
  }

  /** `finished` is called when an upload is complete, before its client is told. */
  static async open(directory: string, finished: (imageId: string, path: string) => void): Promise<Uploads> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    return new Uploads(new UploadStore(directory), finished);
  }

  /** Answers a tus request for one upload. Rejects with what the caller has to answer; nothing was sent then. */
  async handle(upload: Upload, request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.allowed.set(request, upload);
    // The library waits for ever for the end of an answer that nobody reads any more.
    await Promise.race([this.tus.handle(request, response), once(response, 'close')]);
  }

  /** Returns when nothing is written any more. The connections must have been closed before. */
  async settled(): Promise<void> {
    await this.store.settled();
  }

  /** The file of a finished upload. */
  async uploaded(imageId: string): Promise<string | undefined> {
    const upload = await this.store.find(imageId);
    return upload && upload.offset === upload.size ? upload.path : undefined;
  }

  /** How far an unfinished upload is. */
  async progressOf(imageId: string): Promise<UploadProgress | undefined> {
    const upload = await this.store.find(imageId);
    return upload && { done: upload.offset, total: upload.size, changedAt: upload.changedAt };
  }

  /** Removes an upload, finished or not, and ends the request that sends it. An upload that is not there is fine. */
  async forget(imageId: string): Promise<void> {
    const lock = this.locker.newLock(imageId);
    await lock.lock(new AbortController().signal, () => {});
    try {
      const { directory } = this.store;
      // The note goes last: without it nobody finds the file.
      for (const name of [imageId, `${imageId}.json`]) await rm(`${directory}/${name}`, { force: true });
    } finally {
      await lock.unlock();
    }
  }
}
