import type { FastifyReply } from 'fastify';

const lingerMs = 5_000;

/**
 * What was answered before it had all come (an upload may have terabytes to go) is not taken in to its end. Nor is the connection closed at
 * once: the reset that follows would overtake the answer at a client that is still sending. RFC 9112, section 9.6.
 */
export function linger(reply: FastifyReply): void {
  const { request } = reply;
  if (request.raw.complete) return;
  const close = setTimeout(() => request.raw.socket.destroy(), lingerMs).unref();
  request.raw.once('end', () => clearTimeout(close));
  request.raw.once('close', () => clearTimeout(close));
  // Node reads on, to nowhere, once the answer is out; a body that is on its way elsewhere has a reader already.
  reply.removeHeader('connection');
}
