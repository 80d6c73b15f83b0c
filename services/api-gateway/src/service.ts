import { NestLog, type ServiceDefinition } from '@m2/service-kit';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import type { FastifyReply } from 'fastify';
import { gatewayConfig } from './config.js';
import { enableTransfers } from './doors/rest/pass-on.js';
import { refuse } from './doors/rest/problem-filter.js';
import { traceRequests } from './doors/rest/tracing.js';
import { GatewayModule } from './gateway.module.js';
import { gatewayMigrations } from './migrations.js';
import { gatewayExpiring } from './retention.js';

/** The gateway, whole: the process of `main.ts` runs it, and so do tests, in theirs. */
export const gatewayService: ServiceDefinition<typeof gatewayConfig> = {
  name: 'gateway',
  config: gatewayConfig,
  module: GatewayModule,
  migrations: gatewayMigrations,
  entities: [],
  expiring: gatewayExpiring,
  makesStream: ({ eventReplicas, eventBytes, eventHours }) => ({
    replicas: eventReplicas,
    maxBytes: eventBytes,
    maxAgeHours: eventHours,
  }),
  create: async (module, kit) => {
    // Streams that are followed have no end of their own; who follows comes back to the next life of the gateway.
    const adapter = new FastifyAdapter({
      forceCloseConnections: true,
      bodyLimit: 1024 * 1024,
      routerOptions: { ignoreTrailingSlash: true },
      // What is refused before there is a route, as a path with half an escape.
      frameworkErrors: (error: Error, _request: unknown, reply: FastifyReply) => refuse(reply, error),
    });
    const app = await NestFactory.create<NestFastifyApplication>(module, adapter, {
      logger: new NestLog(kit.log),
      abortOnError: false,
      // Nest would take forms too, which any web page can send; Fastify's own parser takes JSON.
      bodyParser: false,
    });
    const fastify = adapter.getInstance();
    fastify.removeContentTypeParser('text/plain');
    traceRequests(fastify as never);
    await enableTransfers(fastify as never, kit.config.transferIdleSeconds * 1_000);
    return app;
  },
  listen: async (app, kit) => {
    // A rack that asks at the same moment must find room in the queue; Node's default is 511.
    await (app as NestFastifyApplication).listen({ ...kit.config.listen, backlog: 4096 });
  },
};
