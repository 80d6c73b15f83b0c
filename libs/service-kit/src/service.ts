import 'reflect-metadata';
import type { ServiceName } from '@m2/contracts';
import {
  type DynamicModule,
  Global,
  type INestApplication,
  type INestApplicationContext,
  Module,
  type Type,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { NestMicroservice } from '@nestjs/microservices';
import { getDataSourceToken } from '@nestjs/typeorm';
import type { z } from 'zod';
import { Bus } from './bus.js';
import { type BaseConfig, ConfigError, loadConfig } from './config.js';
import { Database, type EntityClass, type MigrationClass, type Sql } from './database.js';
import { Effects, type Emit, withEvents } from './effects.js';
import { ErrorFilter } from './error-filter.js';
import { Leases } from './leases.js';
import { Life } from './life.js';
import { eventAlarms } from './event-alarms.js';
import type { StreamLimits } from './event-stream.js';
import { type Logger, makeLog } from './log.js';
import { NestLog } from './nest-log.js';
import { type Alarm, OpsServer, type ReadinessCheck } from './ops-server.js';
import { OutboxRelay } from './outbox.js';
import { allExpiring, type Expiring, startRetention } from './retention.js';
import { SecretBox } from './secret-box.js';
import { startTelemetry } from './telemetry.js';
import { NatsTransport } from './transport.js';

/** What every provider and controller of a service may inject: `@Inject(KIT) kit: Kit<MyConfig>`. */
export const KIT = Symbol('m2 kit');

export interface Kit<Config extends BaseConfig = BaseConfig> {
  service: ServiceName;
  config: Config;
  log: Logger;
  database: Database;
  bus: Bus;
  secrets: SecretBox;
  /** What one replica at a time may do. */
  leases: Leases;
  /** Whether no other process of this replica's name lived when this one started: what an earlier one had is nobody's. */
  wasAlone: boolean;
  /** A transaction outside an `Effect`, together with the events that it emits. */
  transact<T>(work: (sql: Sql, emit: Emit) => Promise<T>): Promise<T>;
  /** Parts that the service needs to be ready, beside PostgreSQL and NATS. */
  readiness: ReadinessCheck[];
  /** What a person has to know of, beside events that do not get on. */
  alarms: Alarm[];
}

export interface ServiceDefinition<S extends z.ZodObject> {
  name: ServiceName;
  /** `baseConfig.extend({…})` */
  config: S;
  module: Type;
  migrations: MigrationClass[];
  entities: EntityClass[];
  /** What of the service's own tables is deleted after a while. */
  expiring?: (config: z.infer<S> & BaseConfig) => Expiring[];
  /** For the one service that makes the event stream: its limits. */
  makesStream?: (config: z.infer<S> & BaseConfig) => StreamLimits;
  /** Makes the Nest application of a service with an HTTP door; the default has none. */
  create?: (module: DynamicModule, kit: Kit<z.infer<S> & BaseConfig>) => Promise<INestApplication>;
  /** Runs when messages are answered: opens the HTTP door that `create` made. */
  listen?: (app: INestApplicationContext, kit: Kit<z.infer<S> & BaseConfig>) => Promise<void>;
}

@Global()
@Module({})
class KitModule {}

/**
 * What every module of the service may inject. `TypeOrmModule.forFeature` finds its DataSource here, not in `TypeOrmModule.forRoot`: the
 * schema is there before the application, and the connections outlive it, for the outbox.
 */
const rootModule = (kit: Kit, module: Type): DynamicModule => ({
  module: KitModule,
  imports: [module],
  providers: [
    { provide: KIT, useValue: kit },
    { provide: getDataSourceToken(), useValue: kit.database.orm },
  ],
  exports: [KIT, getDataSourceToken()],
});

/** With an HTTP door, Nest's hybrid application; without, a microservice. */
async function createApp<S extends z.ZodObject>(
  { create, module }: ServiceDefinition<S>,
  kit: Kit<z.infer<S> & BaseConfig>,
  transport: NatsTransport,
): Promise<{ app: INestApplicationContext; listen(): Promise<void> }> {
  const root = rootModule(kit as Kit, module);
  if (!create) {
    const logger = new NestLog(kit.log);
    const app = await NestFactory.createMicroservice(root, { strategy: transport, logger, abortOnError: false });
    app.useGlobalFilters(new ErrorFilter());
    return { app, listen: () => app.listen() };
  }
  const app = await create(root, kit);
  // Deferred, because handlers that are bound already would not get the filter.
  const messages = app.connectMicroservice<{ strategy: NatsTransport }>(
    { strategy: transport },
    { deferInitialization: true },
  ) as NestMicroservice;
  messages.useGlobalFilters(new ErrorFilter());
  // The hooks of the modules are run by the application, and only once.
  messages.setIsInitHookCalled(true);
  return {
    app,
    async listen() {
      await app.init();
      await messages.listen();
    },
  };
}

/**
 * Runs a service until SIGTERM or SIGINT. The order matters. Start: schema, handlers, subjects. Stop: subjects first, so that nothing begins
 * that could not end.
 */
export async function runService<S extends z.ZodObject>(definition: ServiceDefinition<S>): Promise<void> {
  const { name } = definition;
  const config = readConfig(definition.config) as z.infer<S> & BaseConfig;
  const log = makeLog(name, config.logLevel);
  const stopRequested = Promise.withResolvers<string>();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stopRequested.resolve(signal));
  try {
    const started = await Promise.race([startService(definition, config, log), stopRequested.promise]);
    if (typeof started === 'string') {
      log.info({ reason: started }, 'stopping before it was ready');
      process.exit();
    }
    const { stop, ops, displaced } = started;
    log.info({ ops }, 'ready');
    const reason = await Promise.race([stopRequested.promise, displaced]);
    log.info({ reason }, 'stopping');
    await stop();
  } catch (error) {
    log.fatal({ err: error }, 'the service cannot run');
    process.exitCode = 1;
  }
  // A socket in a library, say, may still hold the event loop: it must not keep a stopped service alive.
  setTimeout(() => process.exit(), 1_000).unref();
}

function readConfig(schema: z.ZodObject): unknown {
  try {
    return loadConfig(schema);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(78); // EX_CONFIG of sysexits.h: a supervisor need not try again
  }
}

export interface RunningService<S extends z.ZodObject = z.ZodObject> {
  app: INestApplicationContext;
  kit: Kit<z.infer<S> & BaseConfig>;
  /** Rejects when another process has what only one may have: this one must end, at once. */
  displaced: Promise<never>;
  /** Where health, readiness and metrics are served. */
  ops: { host: string; port: number };
  /** Waits for what is under way, then closes everything. */
  stop(): Promise<void>;
}

/** Starts a service and returns when it serves; `runService` without the process around it. */
export async function startService<S extends z.ZodObject>(
  definition: ServiceDefinition<S>,
  config: z.infer<S> & BaseConfig,
  log: Logger,
): Promise<RunningService<S>> {
  const { name, migrations, entities } = definition;
  const telemetry = startTelemetry(name, config.otlpEndpoint);
  const [database, bus] = await Promise.all([
    Database.open({
      url: config.databaseUrl,
      password: config.databasePassword,
      poolSize: config.databasePoolSize,
      applicationName: `m2-${name}`,
      migrations,
      entities,
    }),
    Bus.open({
      service: name,
      url: config.natsUrl,
      password: config.natsPassword,
      ca: config.natsCa,
      onWait: (err) => log.warn({ err }, 'waiting for NATS'),
    }),
  ]);
  const life = await Life.begin(database, config.instance, log);
  life.start();
  const displaced = Promise.withResolvers<never>();
  displaced.promise.catch(() => {});
  const leases = new Leases(database, life, log, displaced.reject);
  const relay = new OutboxRelay(database, leases, bus, log, name);
  const kit: Kit<z.infer<S> & BaseConfig> = {
    service: name,
    config,
    log,
    database,
    bus,
    secrets: new SecretBox(config.secretKey),
    leases,
    wasAlone: life.wasAlone,
    transact: async (work) => {
      const { result, emitted } = await withEvents(database, work);
      if (emitted > 0) relay.wake();
      return result;
    },
    readiness: [
      { name: 'postgresql', check: async () => void (await database.query('SELECT 1')) },
      { name: 'nats', check: () => bus.ping() },
    ],
    alarms: eventAlarms(database),
  };
  const transport = new NatsTransport({
    service: name,
    bus,
    database,
    log,
    effects: new Effects(database, leases, config.databasePoolSize, relay.wake),
    concurrency: config.commandConcurrency,
    makesStream: definition.makesStream?.(config),
  });
  const { app, listen } = await createApp(definition, kit, transport).catch(async (error: unknown) => {
    // What this process held must not wait for the end of its lease.
    await life.end();
    throw error;
  });
  await listen();
  bus.announce();
  // NATS gives it no calls any more. Those that it took are asked again, and come to a process that lives.
  life.onSilence(() => bus.announce());
  relay.start();
  const retention = startRetention({
    database,
    log,
    expiring: allExpiring(definition.expiring?.(config) ?? []),
    directory: config.retentionDirectory,
  });
  await definition.listen?.(app, kit);
  const ops = await OpsServer.listen(
    config.opsListen,
    () => kit.readiness,
    () => kit.alarms,
    telemetry.metricsText,
  );

  const stop = async () => {
    await retention.stop();
    await transport.close();
    await app.close();
    await relay.stop();
    await ops.close();
    await bus.close();
    await life.end();
    await database.close();
    await telemetry.close();
  };
  return { app, kit, displaced: displaced.promise, ops: ops.address, stop };
}
