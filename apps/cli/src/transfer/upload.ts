import { errorCatalogue, isErrorCode } from '@m2/contracts';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { type DetailedError, type HttpRequest, type HttpResponse, Upload } from 'tus-js-client';
import type { App } from '../app.js';
import { problemFrom } from '../client.js';
import { CliError, protocolError, usageError } from '../errors.js';
import { exitCodes } from '../exit-codes.js';
import { progressBar } from '../output/progress.js';
import { brokenTransfer, fileError } from './errors.js';

const retryDelays = [200, 1_000, 3_000, 5_000, 10_000, 20_000];

/** A local file, and what tells it from another one that has as many bytes. */
export interface LocalFile {
  path: string;
  size: number;
  fingerprint: string;
}

/** Throws CliError when it is nothing that can be sent. */
export async function localFile(path: string): Promise<LocalFile> {
  const found = await stat(path).catch((error: unknown) => {
    throw fileError(path, error);
  });
  if (!found.isFile() || found.size === 0) throw usageError(`${path} is not a file with something in it`);
  return { path, size: found.size, fingerprint: `${found.size}-${Math.round(found.mtimeMs)}` };
}

/**
 * Sends a file to an image that waits for it (tus 1.0.0); where `goesOn`, from where an earlier upload stopped. Ends when all of it has come.
 * Throws CliError, or the reason of `signal`.
 */
export async function upload(
  app: App,
  params: { project: string; image: string },
  file: LocalFile,
  goesOn: boolean,
  signal: AbortSignal,
): Promise<void> {
  const { url, headers } = (await app.client()).address('uploadShow', { params });
  const bar = progressBar(app.world.stderr, 'upload', app.world.env);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  // It opens the file by its path, once for each try; the stream that is given here only names it.
  const named = createReadStream(file.path).on('error', () => {});
  const sending = new Upload(named as never, {
    endpoint: url,
    ...(goesOn && { uploadUrl: url }),
    headers,
    metadata: { filename: basename(file.path), fingerprint: file.fingerprint },
    storeFingerprintForResuming: false,
    retryDelays,
    onShouldRetry: (error) => isTransient(error),
    onBeforeRequest: (request) => {
      // The token goes to the address that was given and nowhere else, whatever a Location says.
      if (request.getURL() !== url) throw protocolError(`it sends the upload on to ${request.getURL()}`);
    },
    onAfterResponse: (request, response) => refuseOther(request, response, file),
    onProgress: (sent, total) => bar.update(sent, total),
    onSuccess: () => resolve(),
    onError: (error) => reject(failureOf(error)),
  });
  const stop = () => {
    void sending.abort();
    reject(signal.reason as Error);
  };
  signal.addEventListener('abort', stop, { once: true });
  try {
    signal.throwIfAborted();
    sending.start();
    await promise;
    bar.update(file.size, file.size);
  } finally {
    signal.removeEventListener('abort', stop);
    named.destroy();
    bar.end();
  }
}

/** What was begun with one file is not completed with another. */
function refuseOther(request: HttpRequest, response: HttpResponse, { path, size, fingerprint }: LocalFile): void {
  if (request.getMethod() !== 'HEAD' || response.getStatus() >= 300) return;
  const length = response.getHeader('Upload-Length');
  const begunWith = fingerprintIn(response.getHeader('Upload-Metadata') ?? '');
  if (Number(length) === size && (begunWith === undefined || begunWith === fingerprint)) return;
  throw new CliError({
    code: 'cli.other_file',
    title: 'The upload was begun with another file',
    detail: `${path} has other bytes, or was changed since`,
    remedy: 'Send the file that it was begun with, or cancel the import: m2 operation list --kind image.import.',
    exitCode: exitCodes.conflict,
  });
}

/** `key base64,key base64` (tus 1.0.0, Upload-Metadata). */
function fingerprintIn(metadata: string): string | undefined {
  const pair = metadata.split(',').map((one) => one.trim().split(' '));
  const value = pair.find(([key]) => key === 'fingerprint')?.[1];
  return value === undefined ? undefined : Buffer.from(value, 'base64').toString();
}

const answerOf = (error: Error | DetailedError) => ('originalResponse' in error ? error.originalResponse : null);

function isTransient(error: DetailedError): boolean {
  if (error.causingError instanceof CliError) return false;
  const response = answerOf(error);
  if (!response) return true;
  const { code, status } = problemFrom(response.getStatus(), '', response.getBody());
  if (isErrorCode(code)) return errorCatalogue[code].retry !== 'final';
  // What tus itself says: the upload is at another offset, or another request has it.
  return status >= 500 || status === 409 || status === 423;
}

function failureOf(error: Error | DetailedError): Error {
  if (error instanceof CliError) return error;
  const cause = 'causingError' in error ? error.causingError : null;
  if (cause instanceof CliError) return cause;
  const response = answerOf(error);
  // The library's own message holds headers and bodies; the cause says what happened.
  return response ? problemFrom(response.getStatus(), '', response.getBody()) : brokenTransfer(cause ?? error);
}
