import { M2Error, type ReplyOf, type imageTransfer } from '@m2/contracts';
import { currentTraceparent } from '@m2/service-kit';
import replyFrom from '@fastify/reply-from';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { PassThrough, Readable } from 'node:stream';
import { linger } from './linger.js';
import { answer } from './problem-filter.js';
import type { RouteSettings } from './request.js';

/** What of a request goes on: its range, and what tus 1.0.0 and its extensions say. Never who asks, and no word that makes it another method. */
const asked = [
  'range',
  'if-range',
  'content-type',
  'content-length',
  'tus-resumable',
  'upload-length',
  'upload-defer-length',
  'upload-offset',
  'upload-metadata',
  'upload-checksum',
];
const answered = [
  'accept-ranges',
  'content-disposition',
  'content-length',
  'content-range',
  'content-type',
  'etag',
  'last-modified',
  'tus-resumable',
  'tus-version',
  'tus-extension',
  'tus-max-size',
  'upload-expires',
  'upload-length',
  'upload-metadata',
  'upload-offset',
];
const pick = (headers: IncomingHttpHeaders, names: string[]): IncomingHttpHeaders =>
  Object.fromEntries(names.filter((name) => headers[name] !== undefined).map((name) => [name, headers[name]]));

/** The media type of a piece of an upload (tus 1.0.0, PATCH). */
const piece = 'application/offset+octet-stream';

/**
 * Lets the gateway pass bytes on. A transfer lasts as long as it has to: what ends it is that nothing moves on the connection to the service
 * for `idleMs`, whichever side is the reason.
 */
export async function enableTransfers(fastify: FastifyInstance, idleMs: number): Promise<void> {
  // Handed on as it comes, and only where an upload is expected: it may be larger than any memory, and has no limit here.
  fastify.addContentTypeParser(piece, (request, body, done) => {
    const { upload } = request.routeOptions.config as RouteSettings;
    if (upload) done(null, body);
    else done(new M2Error('request.unsupported_media_type', `${piece} is for uploads; this takes JSON`));
  });
  await fastify.register(replyFrom, {
    http: {
      // No connection is used twice: one that the other side is just closing would cost the transfer. Yet they are not announced as such,
      // so that a refusal in the middle of an upload is not followed by a reset that overtakes it.
      agentOptions: { keepAlive: true, maxFreeSockets: 0 },
      requestOptions: { timeout: idleMs },
    },
    destroyAgent: true,
    disableCache: true,
    disableRequestLogging: true,
  });
}

/**
 * Passes a request on to the door that the service opened for it, and what comes from there back, until the end or until `over` aborts with
 * an error: then who has no answer yet hears why, and any other connection breaks off, so that nobody takes a part for the whole.
 */
export function passOn(
  request: FastifyRequest,
  reply: FastifyReply,
  door: ReplyOf<typeof imageTransfer>,
  over: AbortSignal,
): void {
  if (new URL(door.url).protocol !== 'http:')
    throw new M2Error('internal', 'The service opened a door that is not http');
  if (request.body !== undefined && !(request.body instanceof Readable))
    throw new M2Error('request.unsupported_media_type', `An upload is sent as ${piece}`);
  if (request.body) request.body = detached(request.raw);
  const traceparent = currentTraceparent();
  let isAnswered = false;
  const forbid = () => {
    // It has ended by itself.
    if (!(over.reason instanceof M2Error)) return;
    if (isAnswered) return void reply.raw.destroy();
    isAnswered = true;
    answer(reply, over.reason);
    if (request.body instanceof Readable) request.body.destroy(over.reason);
  };
  over.addEventListener('abort', forbid, { once: true });
  reply.from(door.url, {
    queryString: (search) => search?.slice(1) ?? '',
    // Each try would need a ticket of its own, and the body is gone.
    retryDelay: () => null,
    rewriteRequestHeaders: (_request, headers) => ({
      ...pick(headers, asked),
      authorization: `Bearer ${door.ticket}`,
      ...(traceparent && { traceparent }),
    }),
    rewriteHeaders: (headers) => ({
      ...pick(headers, answered),
      // tus: where the upload goes on. The door is nobody's business, and the way to it is always through here.
      ...(headers.location !== undefined && { location: request.url.replace(/\?.*/s, '') }),
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    }),
    onResponse: (_request, _reply, response) => {
      const { statusCode, stream } = response as unknown as { statusCode: number; stream: Readable };
      if (isAnswered) return void stream.destroy();
      isAnswered = true;
      linger(reply);
      if (statusCode !== 401) return void reply.send(stream);
      // It is our ticket that was refused, not who asked.
      stream.destroy();
      answer(reply, new M2Error('service.unavailable', 'The service let the transfer wait for too long'));
    },
    onError: (_reply, { error }) => {
      // An answer that breaks off tells so itself; until then it stands, whatever becomes of a body that it did not wait for.
      if (isAnswered) return;
      const isLate = (error as { statusCode?: number }).statusCode === 504;
      const failure = isLate
        ? new M2Error('request.deadline', 'The transfer stood still for too long')
        : new M2Error('service.unavailable', 'The service that holds the bytes does not answer');
      answer(reply, failure);
    },
  });
}

/**
 * The body, for a service that may stop to take it in: that is no reason to cut the connection to the client, who is to hear why. A client
 * that goes away ends it.
 */
function detached(from: IncomingMessage): PassThrough {
  const body = new PassThrough();
  from.once('close', () => {
    if (!from.complete) body.destroy(new Error('the client went away'));
  });
  // What nobody takes in is read to nowhere, for as long as the connection lingers.
  body.once('close', () => from.resume());
  return from.pipe(body);
}
