import type { FastifyReply, FastifyRequest } from 'fastify';
import { once } from 'node:events';
import type { Told } from '../../use-cases/use-case.js';

export const wantsStream = (request: FastifyRequest): boolean =>
  /\btext\/event-stream\b/.test(request.headers.accept ?? '');

const keepAliveMs = 15_000;

/**
 * Server-sent events (WHATWG HTML, section 9.2): one message for each value, until the source ends or `over` aborts. A comment now and then
 * keeps proxies from closing a quiet stream.
 */
export async function sendStream(
  reply: FastifyReply,
  over: AbortController,
  open: () => Promise<AsyncIterable<Told>>,
): Promise<void> {
  const { raw } = reply;
  try {
    // What cannot be followed is refused while it still can be.
    const source = await open();
    reply.hijack();
    if (over.signal.aborted) return void raw.destroy();
    raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' });
    raw.flushHeaders();
    await send(raw, source, over.signal);
  } finally {
    // Whatever is still held for this follower goes with it.
    over.abort();
  }
}

async function send(raw: FastifyReply['raw'], source: AsyncIterable<Told>, signal: AbortSignal): Promise<void> {
  const keepAlive = setInterval(() => raw.writableNeedDrain || raw.write(': still here\n\n'), keepAliveMs);
  try {
    for await (const { id, event, data } of source) {
      const text = `${id ? `id: ${id}\n` : ''}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
      // A reader that does not keep up is waited for, not buffered for.
      if (!raw.write(text)) await once(raw, 'drain', { signal });
      if (signal.aborted) break;
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    clearInterval(keepAlive);
    raw.end();
  }
}
