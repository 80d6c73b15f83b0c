import type { ServiceName } from '@m2/contracts';
import { randomBytes } from 'node:crypto';
import type { z } from 'zod';
import { Bus } from '../bus.js';
import { type BaseConfig, loadConfig } from '../config.js';
import { makeLog } from '../log.js';
import { type RunningService, type ServiceDefinition, startService } from '../service.js';
import { startNats, type TestNats } from './nats.js';
import { sharedPostgres, type TestPostgres } from './postgres.js';

/** What a service stands on, for the tests of one file. */
export interface TestEnvironment {
  postgres: TestPostgres;
  nats: TestNats;
  /** A connection to NATS, as another service has it. */
  bus(service?: ServiceName): Promise<Bus>;
  /**
   * Runs a service in this process, in a new database unless `environment` names one (`M2_DATABASE_URL`); what it logs (from warnings
   * on, unless `M2_LOG_LEVEL` says otherwise) goes to `log`.
   */
  run<S extends z.ZodObject>(
    definition: ServiceDefinition<S>,
    environment?: Record<string, string>,
    log?: NodeJS.WritableStream,
  ): Promise<RunningService<S>>;
  /** Stops the services that still run, then all else. */
  close(): Promise<void>;
}

/** `ownPostgres` for tests that halt it. */
export async function openTestEnvironment(ownPostgres?: TestPostgres): Promise<TestEnvironment> {
  const [postgres, nats] = await Promise.all([ownPostgres ?? sharedPostgres(), startNats()]);
  const buses: Bus[] = [];
  const running = new Set<RunningService>();
  return {
    postgres,
    nats,
    async bus(service = 'gateway') {
      const bus = await Bus.open({ service, url: nats.url });
      buses.push(bus);
      return bus;
    },
    async run(definition, environment = {}, log = process.stderr) {
      const config = loadConfig(definition.config, {
        M2_DATABASE_URL: environment['M2_DATABASE_URL'] ?? (await postgres.database()),
        M2_NATS_URL: nats.url,
        M2_SECRET_KEY: randomBytes(32).toString('hex'),
        M2_LOG_LEVEL: 'error',
        M2_INSTANCE: randomBytes(8).toString('hex'),
        ...environment,
      }) as z.infer<typeof definition.config> & BaseConfig;
      const service = await startService(
        definition,
        config,
        makeLog(definition.name, config['logLevel'] as string, log),
      );
      // A test may send a request at once: by then the server must know the service's subscriptions.
      await service.kit.bus.connection.flush();
      const stop = service.stop;
      service.stop = () => {
        running.delete(service as never);
        return stop();
      };
      running.add(service as never);
      return service;
    },
    async close() {
      await Promise.all([...running].map((service) => service.stop()));
      await Promise.all(buses.map((bus) => bus.close()));
      await Promise.all([postgres.stop(), nats.stop()]);
    },
  };
}
