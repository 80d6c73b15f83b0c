import type { FastifyInstance } from 'fastify';

/** An accepted operation answers 202 with the place to watch it (RFC 9110, section 10.2.2). */
export function locate(fastify: FastifyInstance): void {
  fastify.addHook('onSend', (_request, reply, payload, done) => {
    const id =
      reply.statusCode === 202 && typeof payload === 'string'
        ? /^\{"id":"([0-9a-f-]{36})"/.exec(payload)?.[1]
        : undefined;
    if (id) reply.header('location', `/v1/operations/${id}`);
    done(null, payload);
  });
}
