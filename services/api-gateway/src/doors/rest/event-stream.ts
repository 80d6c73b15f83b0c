import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Told } from '../../use-cases/use-case.js';

export const wantsStream = (request: FastifyRequest): boolean =>
  /\btext\/event-stream\b/.test(request.headers.accept ?? '');

const keepAliveMs = 15_000;

/**
 * Server-sent events (WHATWG HTML, section 9.2): one message for each value, until the source or the client ends. A comment now and then
 * keeps proxies from closing a quiet stream.
 */
export async function sendStream(
  request: FastifyRequest,
  reply: FastifyReply,
  open: (signal: AbortSignal) => Promise<AsyncIterable<Told>>,
): Promise<void> {
  const closed = new AbortController();
  request.raw.once('close', () => closed.abort());
  // What cannot be followed is refused while it still can be.
  const source = await open(closed.signal);
  reply.hijack();
  const { raw } = reply;
  raw.once('close', () => closed.abort());
  // Who left while we looked things up does not say so again.
  if (raw.destroyed) return;
  raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' });
  raw.flushHeaders();
  const keepAlive = setInterval(() => raw.write(': still here\n\n'), keepAliveMs);
  try {
    for await (const { id, event, data } of source) {
      const text = `${id ? `id: ${id}\n` : ''}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
      // A reader that does not keep up is waited for, not buffered for.
      if (!raw.write(text))
        await new Promise<void>((resolve) => raw.once('drain', resolve).once('close', () => resolve()));
      if (closed.signal.aborted) break;
    }
  } finally {
    clearInterval(keepAlive);
    raw.end();
  }
}
