import { M2Error, toProblem } from '@m2/contracts';
import { ConfigError, currentTraceId, type Kit, KIT } from '@m2/service-kit';
import { type BeforeApplicationShutdown, Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { StorageBackend } from '@m2/storage';
import { STORAGE } from '../storage/storage.token.js';
import type { ImageConfig } from '../config.js';
import { type Download, sendVolume } from './send-volume.js';
import { Tickets } from './tickets.js';
import { type Upload, type UploadProgress, Uploads } from './uploads.js';

type Grant = { path: '/download'; download: Download } | { path: '/upload'; upload: Upload };

/** A ticket goes into the header `Authorization: Bearer …` of one request to `url`. */
export interface OpenDoor {
  url: string;
  ticket: string;
}

const methods = { '/download': ['GET', 'HEAD'], '/upload': ['POST', 'HEAD', 'PATCH'] };
/** A connection is closed when nothing has moved in either direction for this long. */
const stallMs = 300_000;

/**
 * HTTP server for uploads and downloads. Only the gateway uses it, and decides who may do what before it asks for a ticket. The ticket
 * alone says what is read or written; nothing in the request does.
 */
@Injectable()
export class TransferDoor implements OnModuleInit, BeforeApplicationShutdown {
  private readonly tickets = new Tickets<Grant>();
  private readonly running = new Set<Promise<void>>();
  private readonly listeners: ((imageId: string, path: string) => void)[] = [];
  private server: Server | undefined;
  private opened: Promise<Uploads> | undefined;
  private base = '';

  constructor(
    @Inject(KIT) private readonly kit: Pick<Kit<ImageConfig>, 'config' | 'log'>,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {}

  async onModuleInit(): Promise<void> {
    const { transferListen, transferAdvertised } = this.kit.config;
    if (transferAdvertised === undefined && ['0.0.0.0', '::'].includes(transferListen.host)) {
      throw new ConfigError(
        'M2_TRANSFER_ADVERTISED: must be set when M2_TRANSFER_LISTEN is every address of the machine',
      );
    }
    await this.uploads();
    // A transfer may take as long as bytes move. By default Node would end an upload after five minutes.
    const server = createServer({ requestTimeout: 0 }, (request, response) => this.serve(request, response));
    server.timeout = stallMs;
    server.listen(transferListen.port, transferListen.host);
    await once(server, 'listening');
    this.server = server;
    const { port } = server.address() as AddressInfo;
    this.base = transferAdvertised?.replace(/\/+$/, '') ?? `http://${transferListen.host}:${port}`;
  }

  /** Runs before the storage is closed, because transfers read from it. */
  async beforeApplicationShutdown(): Promise<void> {
    this.server?.close();
    this.server?.closeAllConnections();
    await Promise.all(this.running);
    await (await this.uploads()).settled();
  }

  /** Allows one GET or HEAD request for a volume, which is opened when the request comes. */
  openDownload(download: Download): OpenDoor {
    return { url: `${this.base}/download`, ticket: this.tickets.issue({ path: '/download', download }) };
  }

  /** Allows one request of the tus protocol that sends (a part of) an image. */
  openUpload(upload: Upload): OpenDoor {
    return { url: `${this.base}/upload`, ticket: this.tickets.issue({ path: '/upload', upload }) };
  }

  /** Calls the listener when an upload is complete. Use `uploaded` for those that were completed before. */
  onUploaded(listener: (imageId: string, path: string) => void): void {
    this.listeners.push(listener);
  }

  /** The file of a finished upload, also after a restart. Nobody writes to it any more. */
  async uploaded(imageId: string): Promise<string | undefined> {
    return (await this.uploads()).uploaded(imageId);
  }

  /** How far an unfinished upload is, and when its last byte came. */
  async progressOf(imageId: string): Promise<UploadProgress | undefined> {
    return (await this.uploads()).progressOf(imageId);
  }

  /** Removes an upload, finished or not. An upload that is not there is fine. */
  async forget(imageId: string): Promise<void> {
    await (await this.uploads()).forget(imageId);
  }

  /** Opened on first use: other parts may look for uploads while the service starts. */
  private uploads(): Promise<Uploads> {
    this.opened ??= Uploads.open(join(this.kit.config.storageDirectory, 'uploads'), (imageId, path) => {
      for (const listener of this.listeners) listener(imageId, path);
    });
    return this.opened;
  }

  private serve(request: IncomingMessage, response: ServerResponse): void {
    const work = this.answer(request, response)
      .catch((error: unknown) => this.fail(M2Error.from(error), request, response))
      .finally(() => this.running.delete(work));
    this.running.add(work);
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const ticket = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
    if (ticket === undefined) throw new M2Error('auth.missing', 'A transfer needs a ticket');
    const grant = this.tickets.take(ticket);
    if (!grant || grant.path !== request.url)
      throw new M2Error('auth.invalid', 'The ticket does not allow this request');
    if (!methods[grant.path].includes(request.method ?? '')) {
      response.setHeader('allow', methods[grant.path].join(', '));
      throw new M2Error('request.method_not_allowed', `${request.method} is not allowed for ${grant.path}`);
    }
    if (grant.path === '/download') await sendVolume(this.storage, grant.download, request, response);
    else await (await this.uploads()).handle(grant.upload, request, response);
  }

  private fail(error: M2Error, request: IncomingMessage, response: ServerResponse): void {
    if (error.status >= 500) this.kit.log.error({ err: error, path: request.url }, 'a transfer failed');
    if (response.headersSent || response.destroyed) {
      response.destroy();
      return;
    }
    if (error.status === 401) response.setHeader('www-authenticate', 'Bearer');
    response.writeHead(error.status, { 'content-type': 'application/problem+json' });
    response.end(JSON.stringify(toProblem(error, currentTraceId())));
  }
}
