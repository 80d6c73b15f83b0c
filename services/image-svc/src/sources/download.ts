import { request as httpRequest } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { setTimeout as pause } from 'node:timers/promises';
import type { AllowedHosts } from './allowed-hosts.js';
import { ImageError } from '@m2/storage';
import type { StagingFile } from './staging-file.js';

export interface DownloadLimits {
  /** Time until the head of the response, per request. */
  connectTimeoutMs: number;
  /** Time without a byte of the body. */
  stallTimeoutMs: number;
  /** How often a broken transfer is tried again, in total. */
  retries: number;
}

const maxRedirects = 5;
/** The most bytes that a later run may have to fetch again. */
const keepEvery = 64 * 2 ** 20;
/** A date that is younger than this cannot tell two versions apart: it counts in seconds, and two clocks differ. */
const strongDateMs = 60_000;

/** The transfer broke, or the server is out of order: it may be tried again. */
class Broken extends Error {}

/** What identifies the bytes behind a URL (RFC 9110, 8.8). Only with a strong validator may two parts be put together. */
interface Progress {
  total: number | undefined;
  validator: string | undefined;
}

/**
 * Downloads over HTTP or HTTPS into `staging`. A broken transfer goes on where it broke (Range and If-Range, RFC 9110, 13.1.5 and 14) if
 * the server can tell that the bytes are still the same, and else from the start; so does a transfer that an earlier run left in `staging`.
 * Errors: `image.source_forbidden`, `image.source_unreachable`, `image.truncated`, those of StagingFile, and the signal's reason.
 */
export async function download(
  url: string,
  hosts: AllowedHosts,
  staging: StagingFile,
  limits: DownloadLimits,
  signal?: AbortSignal,
): Promise<void> {
  const progress: Progress = { total: staging.partOf?.total, validator: staging.partOf?.validator };
  if (staging.bytes > 0 && staging.bytes === progress.total) return; // an earlier run completed it
  // Each host is resolved once per download, so that a retry gets no other address.
  const addresses = new Map<string, ReturnType<AllowedHosts['addressOf']>>();
  const addressOf = (host: string) => {
    const known = addresses.get(host) ?? hosts.addressOf(host);
    addresses.set(host, known);
    return known;
  };
  for (let attempt = 0; ; attempt++) {
    signal?.throwIfAborted();
    try {
      await transfer(url, addressOf, staging, progress, limits, signal);
      await keep(staging, { ...progress, total: staging.bytes });
      return;
    } catch (error) {
      if (signal?.aborted) await keep(staging, progress).catch(() => {}); // else what an earlier run kept stays
      signal?.throwIfAborted();
      if (!(error instanceof Broken)) throw error;
      if (attempt >= limits.retries) throw gaveUp(error, staging, progress);
    }
    await pause(Math.min(100 * 2 ** attempt, 10_000), undefined, { signal }).catch(() => {});
  }
}

async function transfer(
  url: string,
  addressOf: AllowedHosts['addressOf'],
  staging: StagingFile,
  progress: Progress,
  limits: DownloadLimits,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (staging.bytes > 0 && progress.validator === undefined) await staging.restart();
  const range = { Range: `bytes=${staging.bytes}-`, 'If-Range': progress.validator };
  const headers = { 'Accept-Encoding': 'identity', 'User-Agent': 'm2-image-svc', ...(staging.bytes > 0 && range) };
  const response = await follow(url, addressOf, headers, limits, signal);
  try {
    await begin(response, staging, progress);
    staging.announce(progress.total);
    await receive(response, staging, progress, limits);
  } finally {
    response.destroy();
  }
}

/** Sends the request, and follows redirects. Every hop must be allowed. */
async function follow(
  url: string,
  addressOf: AllowedHosts['addressOf'],
  headers: Record<string, string | undefined>,
  limits: DownloadLimits,
  signal: AbortSignal | undefined,
): Promise<IncomingMessage> {
  let at = parse(url);
  for (let hop = 0; hop <= maxRedirects; hop++) {
    const response = await get(at, await addressOf(at.hostname), headers, limits, signal);
    const { statusCode = 0 } = response;
    if (![301, 302, 303, 307, 308].includes(statusCode)) return response;
    response.destroy();
    const next = parse(response.headers.location ?? '', at);
    if (at.protocol === 'https:' && next.protocol !== 'https:') {
      throw forbidden(`${at.host} redirects from HTTPS to HTTP`);
    }
    at = next;
  }
  throw new ImageError('image.source_unreachable', `More than ${maxRedirects} redirects. Use the final URL.`);
}

function get(
  url: URL,
  { address, family }: { address: string; family: number },
  headers: Record<string, string | undefined>,
  limits: DownloadLimits,
  signal: AbortSignal | undefined,
): Promise<IncomingMessage> {
  const options: RequestOptions = {
    headers,
    agent: false, // a pooled connection may lead to an address that was not checked
    // The name is for the Host header and TLS. The connection goes to the address that was checked.
    lookup: (_host, { all }, answer) =>
      all
        ? answer(null, [{ address, family }])
        : (answer as (e: null, a: string, f: number) => void)(null, address, family),
    ...(signal && { signal }),
  };
  return new Promise((resolve, reject) => {
    const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, options);
    const timer = setTimeout(
      () => request.destroy(new Broken(`${url.host} did not answer within ${limits.connectTimeoutMs} ms`)),
      limits.connectTimeoutMs,
    );
    request.once('close', () => clearTimeout(timer));
    request.on('error', (error) => reject(new Broken(error.message, { cause: error })));
    request.once('response', (response) => {
      clearTimeout(timer);
      response.on('error', () => {}); // it may break before anybody reads; the reader gets the error
      resolve(response);
    });
    request.end();
  });
}

/** Reads the head: does the body begin where `staging` ends? */
async function begin(response: IncomingMessage, staging: StagingFile, progress: Progress): Promise<void> {
  const { statusCode = 0, headers } = response;
  if (statusCode === 206 && staging.bytes > 0) {
    const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers['content-range'] ?? '');
    const total = range?.[2] === '*' ? progress.total : Number(range?.[2]);
    if (Number(range?.[1]) === staging.bytes && total === progress.total) return;
    progress.validator = undefined; // not the part that was asked for: start again
    throw new Broken('the server sent another part of the file than it was asked for');
  }
  if (statusCode === 416 || statusCode === 429 || statusCode >= 500) {
    if (statusCode === 416) progress.validator = undefined;
    throw new Broken(`the server answered ${statusCode}`);
  }
  if (statusCode !== 200) {
    throw new ImageError('image.source_unreachable', `The server answered ${statusCode}. Check the URL.`);
  }
  if ((headers['content-encoding'] ?? 'identity') !== 'identity') {
    throw new ImageError('image.source_unreachable', 'The server compresses the file on its way. Turn that off there.');
  }
  if (staging.bytes > 0) await staging.restart(); // the file changed, or the server does not support ranges
  const length = headers['content-length'];
  progress.total = length === undefined ? undefined : Number(length);
  progress.validator = headers['accept-ranges'] === 'none' ? undefined : strongValidator(headers);
}

/** RFC 9110, 8.8.2.2 and 13.1.5: use a date only when there is no entity tag, and only when it is old enough. */
function strongValidator({ etag, date, 'last-modified': modified }: IncomingHttpHeaders): string | undefined {
  if (etag !== undefined) return etag.startsWith('"') ? etag : undefined;
  return Date.parse(date ?? '') - Date.parse(modified ?? '') >= strongDateMs ? modified : undefined;
}

/** Lets a later run go on from here, if the server will be able to tell that the bytes are still the same. */
async function keep(staging: StagingFile, { validator, total }: Progress): Promise<void> {
  if (validator !== undefined && staging.bytes > 0)
    await staging.keep({ validator, ...(total !== undefined && { total }) });
}

async function receive(
  response: IncomingMessage,
  staging: StagingFile,
  progress: Progress,
  limits: DownloadLimits,
): Promise<void> {
  const stall = setTimeout(
    () => response.destroy(new Broken(`no byte within ${limits.stallTimeoutMs} ms`)),
    limits.stallTimeoutMs,
  );
  let kept = staging.bytes;
  const chunks = response.iterator({ destroyOnReturn: true }) as AsyncIterator<Buffer>;
  try {
    for (;;) {
      const chunk = await chunks.next().catch((error: unknown) => {
        throw error instanceof Broken ? error : new Broken('the connection broke', { cause: error });
      });
      if (chunk.done) break;
      stall.refresh();
      await staging.write(chunk.value, progress.total);
      if (staging.bytes - kept < keepEvery) continue;
      await keep(staging, progress);
      kept = staging.bytes;
    }
  } finally {
    clearTimeout(stall);
  }
  if (!response.complete || (progress.total !== undefined && staging.bytes < progress.total)) {
    throw new Broken('the body ended early');
  }
}

function parse(text: string, base?: URL): URL {
  const url = URL.parse(text, base?.href);
  if (!url || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw forbidden('Images come from http: and https: URLs only');
  }
  if (url.username || url.password) throw forbidden('A URL with a password in it would end up in logs');
  return url;
}

function gaveUp(error: Broken, { bytes }: StagingFile, { total }: Progress): ImageError {
  return bytes > 0
    ? new ImageError(
        'image.truncated',
        `The download broke off after ${bytes} of ${total ?? 'an unknown number of'} bytes: ${error.message}. Check the source, then import again.`,
        { cause: error },
      )
    : new ImageError(
        'image.source_unreachable',
        `The source cannot be read: ${error.message}. Check it, then import again.`,
        {
          cause: error,
        },
      );
}

function forbidden(reason: string): ImageError {
  return new ImageError('image.source_forbidden', `${reason}. Use another URL.`);
}
