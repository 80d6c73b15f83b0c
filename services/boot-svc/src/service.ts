import { NestLog, type ServiceDefinition } from '@m2/service-kit';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { BootModule } from './boot.module.js';
import { bootConfiguration } from './config.js';
import { bootMigrations } from './migrations.js';

/** The boot service, whole: the process of `main.ts` runs it, and so do tests, in theirs. */
export const bootService: ServiceDefinition<typeof bootConfiguration> = {
  name: 'boot',
  config: bootConfiguration,
  module: BootModule,
  migrations: bootMigrations,
  entities: [],
  create: async (module, kit) => {
    // No proxy is trusted: the address that a node is known by is that of its socket, never of a header that it sends.
    const adapter = new FastifyAdapter({ bodyLimit: 16 * 1024, trustProxy: false });
    return NestFactory.create<NestFastifyApplication>(module, adapter, {
      logger: new NestLog(kit.log),
      abortOnError: false,
    });
  },
  listen: async (app, kit) => {
    // A rack that is powered on at once asks in the same second; Node's default queue holds 511.
    await (app as NestFastifyApplication).listen({ ...kit.config.bootListen, backlog: 4096 });
  },
};
