import { NestLog, runService } from '@m2/service-kit';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { gatewayConfig } from './config.js';
import { locate } from './door/location.js';
import { ProblemFilter } from './door/problem-filter.js';
import { traceRequests } from './door/tracing.js';
import { GatewayModule } from './gateway.module.js';
import { Gateway1795000000001 } from './migrations.js';

await runService({
  name: 'gateway',
  config: gatewayConfig,
  module: GatewayModule,
  migrations: [Gateway1795000000001],
  entities: [],
  create: async (module, kit) => {
    // Streams that are followed have no end of their own; who follows comes back to the next life of the gateway.
    const adapter = new FastifyAdapter({
      forceCloseConnections: true,
      bodyLimit: 1024 * 1024,
      routerOptions: { ignoreTrailingSlash: true },
    });
    const app = await NestFactory.create<NestFastifyApplication>(module, adapter, {
      logger: new NestLog(kit.log),
      abortOnError: false,
    });
    const fastify = adapter.getInstance();
    traceRequests(fastify as never);
    locate(fastify as never);
    app.useGlobalFilters(new ProblemFilter(kit.log));
    return app;
  },
  listen: async (app, kit) => {
    // A rack that asks at the same moment must find room in the queue; Node's default is 511.
    await (app as NestFastifyApplication).listen({ ...kit.config.listen, backlog: 4096 });
  },
});
