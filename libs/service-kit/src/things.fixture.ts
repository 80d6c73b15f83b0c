import {
  type BootConfig,
  bootConfigCreate,
  bootConfigDelete,
  bootConfigShow,
  bootScriptServed,
  M2Error,
  type RequestOf,
} from '@m2/contracts';
import { Controller, Inject, Module } from '@nestjs/common';
import { trace } from '@opentelemetry/api';
import type { MigrationInterface, QueryRunner } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import type { Bus } from './bus.js';
import { baseConfig } from './config.js';
import type { Effect } from './effects.js';
import { Answers, Handles } from './handlers.js';
import { type Kit, KIT, type ServiceDefinition } from './service.js';

class Things1795000000099 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    // Slow enough for two instances that start together to be here at the same time, if nothing prevents it.
    await runner.query('CREATE TABLE things (id uuid PRIMARY KEY); SELECT pg_sleep(0.3)');
  }
  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE things');
  }
}

/** What reached the handlers in this process: effect keys of commands, identifiers of queries. */
export const handled: string[] = [];
/** The trace ids that the handlers saw. */
export const traces: (string | undefined)[] = [];
/** The answer about it has 5 MB. */
export const hugeThing = '0198f7a0-0000-7000-8000-00000000000a';
/** The answer about it cannot be written as JSON. */
export const strangeThing = '0198f7a0-0000-7000-8000-00000000000b';
/** Commands wait at it. */
export const gate = { open: Promise.resolve() };

@Controller()
class Things {
  constructor(@Inject(KIT) private readonly kit: Kit) {}

  @Answers(bootConfigShow)
  async show({ configId }: RequestOf<typeof bootConfigShow>): Promise<BootConfig> {
    handled.push(configId);
    traces.push(trace.getActiveSpan()?.spanContext().traceId);
    if (configId === hugeThing) return 'x'.repeat(5_000_000) as never;
    if (configId === strangeThing) return 1n as never;
    throw new M2Error('boot.config_not_found', `There is no ${configId}`);
  }

  @Handles(bootConfigCreate)
  async create(request: RequestOf<typeof bootConfigCreate>, effect: Effect): Promise<BootConfig> {
    traces.push(trace.getActiveSpan()?.spanContext().traceId);
    await gate.open;
    return effect.commit(async (sql, emit) => {
      handled.push(effect.key);
      const { configId, project, provision, node, mac, exportId } = request;
      await sql.query('INSERT INTO things VALUES ($1)', [configId]);
      const ref = { id: configId, project, provision, node, mac };
      emit(bootScriptServed, ref, { entity: configId, project });
      const at = { createdAt: new Date().toISOString(), scriptServedAt: null, bootedAt: null };
      return { ...ref, exportId, state: 'armed', report: null, ...at };
    });
  }

  @Handles(bootConfigDelete)
  delete(_request: RequestOf<typeof bootConfigDelete>, _effect: Effect): Promise<Record<string, never>> {
    throw new Error(`${this.kit.service} cannot do that`);
  }
}

@Module({ controllers: [Things] })
class ThingsModule {}

/** A service of the catalogue that only counts. */
export const thingsService: ServiceDefinition<typeof baseConfig> = {
  name: 'boot',
  config: baseConfig,
  module: ThingsModule,
  migrations: [Things1795000000099],
  entities: [],
};

/** A log for services whose errors are part of the test. */
export const quiet = { write: () => true } as unknown as NodeJS.WritableStream;

export const newThing = () => ({
  configId: uuidv7(),
  project: uuidv7(),
  provision: uuidv7(),
  node: uuidv7(),
  nodeName: 'node-1',
  mac: '52:54:00:00:00:01',
  exportId: uuidv7(),
  initiator: 'iqn.2018-10.io.m2:node.1',
});

export const createThing = (bus: Bus, input = newThing(), effect = `${uuidv7()}/arm/do`) =>
  bus.request(bootConfigCreate, input, { deadlineMs: 10_000, effect, fence: 1 });
