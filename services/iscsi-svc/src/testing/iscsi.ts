import type { Call, exportCreate, InputOf, ReplyOf } from '@m2/contracts';
import type { ServiceDefinition } from '@m2/service-kit';
import { openTestEnvironment } from '@m2/service-kit/testing';
import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { randomBytes, randomUUID } from 'node:crypto';
import { iscsiConfig } from '../config.js';
import { ExportEntity } from '../exports/export.entity.js';
import { BACKINGS, DiskTargets, TARGETS } from '../exports/disk-targets.js';
import { ExportHandlers } from '../exports/export-handlers.js';
import { Backings } from '../backings/backings.js';
import { ExportPortals } from '../exports/export-portals.js';
import { ExportStore } from '../exports/export-store.js';
import { PortalHost } from '../exports/portal-host.js';
import { ReattachedDisks } from '../exports/reattached-disks.js';
import { Reconciler } from '../exports/reconciler.js';
import { iscsiMigrations } from '../migrations.js';
import {
  type ExportSpec,
  type ObservedExport,
  type Portal,
  type TargetDriver,
  TargetError,
  type TargetErrorCode,
} from '../targets/target.port.js';

/** Targets in memory. */
export class RecordedTargets implements TargetDriver {
  readonly calls: string[] = [];
  readonly specs = new Map<string, ExportSpec>();
  failing: { method: 'ensure' | 'remove'; code: TargetErrorCode; afterwards?: boolean } | undefined;
  /** Runs when a target has been created, before the caller learns that. */
  made: (spec: ExportSpec) => Promise<void> = async () => {};
  private lost: (pool: string) => void = () => {};

  async ensureExport(spec: ExportSpec): Promise<{ portals: Portal[]; lun: 1 }> {
    this.calls.push(`ensure ${spec.iqn}`);
    this.fail('ensure', false);
    this.specs.set(spec.iqn, spec);
    this.fail('ensure', true);
    await this.made(spec);
    return { portals: [{ address: '127.0.0.1', port: 3260 }], lun: 1 };
  }

  async ensureNoExport(pool: string, iqn: string): Promise<void> {
    this.calls.push(`remove ${iqn}`);
    this.fail('remove', false);
    if (this.specs.get(iqn)?.pool === pool) this.specs.delete(iqn);
  }

  async dropSessions(): Promise<number> {
    return 0;
  }

  pools(): string[] {
    this.calls.push('pools');
    return [...new Set([...this.specs.values()].map(({ pool }) => pool))];
  }

  async observe(only?: string): Promise<ObservedExport[]> {
    const specs = [...this.specs.values()].filter(({ pool }) => only === undefined || pool === only);
    return specs.map(({ iqn, pool, backing, initiator, chap }, at) => ({
      iqn,
      tid: at + 1,
      pool,
      backingPath: backing.path,
      initiators: [initiator],
      accounts: [chap.user],
      sessions: [],
    }));
  }

  onInstanceLost(listener: (pool: string) => void): void {
    this.lost = listener;
  }

  async close(): Promise<void> {
    this.calls.push('close');
  }

  /** The process of a tenant's targets dies. */
  die(pool: string): void {
    for (const [iqn, spec] of this.specs) if (spec.pool === pool) this.specs.delete(iqn);
    this.lost(pool);
  }

  private fail(method: 'ensure' | 'remove', afterwards: boolean): void {
    if (this.failing?.method !== method || (this.failing.afterwards ?? false) !== afterwards) return;
    const { code } = this.failing;
    this.failing = undefined;
    throw new TargetError(code, 'as the test says');
  }
}

export interface Hardware {
  targets: TargetDriver;
  backings: Backings;
}

function definitionWith({ targets, backings }: Hardware): ServiceDefinition<typeof iscsiConfig> {
  const hardware = [
    { provide: TARGETS, useValue: targets },
    { provide: BACKINGS, useValue: backings },
  ];
  const controllers = [ExportHandlers, ReattachedDisks];
  const services = [ExportStore, ExportPortals, DiskTargets, PortalHost, Reconciler];

  @Module({ imports: [TypeOrmModule.forFeature([ExportEntity])], controllers, providers: [...services, ...hardware] })
  class TestModule {}
  return {
    name: 'iscsi',
    config: iscsiConfig,
    module: TestModule,
    migrations: iscsiMigrations,
    entities: [ExportEntity],
  };
}

/**
 * iscsi-svc with a real PostgreSQL and NATS, its handlers and its reconciler. Its targets are recorded calls, unless a test passes real
 * ones.
 */
export async function openIscsi(environment: Record<string, string> = {}, real?: Hardware) {
  const env = await openTestEnvironment();
  const targets = new RecordedTargets();
  const log: string[] = [];
  const destination = { write: (line: string) => log.push(line) } as unknown as NodeJS.WritableStream;
  const common = {
    M2_DATABASE_URL: await env.postgres.database(),
    M2_SECRET_KEY: randomBytes(32).toString('hex'),
    M2_TARGET_DIRECTORY: '/unused',
    M2_RECONCILE_SECONDS: '0.1',
    M2_LOG_LEVEL: 'info',
  };
  const run = (settings: Record<string, string>, hardware: Hardware) =>
    env.run(definitionWith(hardware), { ...common, ...settings }, destination);
  const recorded = { targets, backings: await Backings.open({ directory: '/unused' }) };
  const { kit, stop } = await run(environment, real ?? recorded);
  const bus = await env.bus();
  const tell = <C extends Call>(
    call: C,
    input: InputOf<C>,
    effect = `${randomUUID()}/step/do`,
    fence = 1,
  ): Promise<ReplyOf<C>> => bus.request(call, input, { deadlineMs: 10_000, effect, fence });
  let count = 0;
  return {
    env,
    kit,
    stop,
    /** One more replica, with its own hardware; returns what stops it. */
    replica: async (settings: Record<string, string>, hardware: Hardware): Promise<() => Promise<void>> =>
      (await run(settings, hardware)).stop,
    targets,
    log,
    tell,
    ask: <C extends Call>(call: C, input: InputOf<C>): Promise<ReplyOf<C>> =>
      bus.request(call, input, { deadlineMs: 10_000 }),
    request(more: object = {}): InputOf<typeof exportCreate> {
      const volume = `m1img${(count += 1)}`;
      const backing = { type: 'file' as const, path: `/volumes/${volume}` };
      const initiator = `iqn.2018-10.io.m2:node.${count}`;
      return { exportId: randomUUID(), project: randomUUID(), disk: randomUUID(), volume, backing, initiator, ...more };
    },
    async events(entity: string) {
      const rows = await kit.database.query<{ type: string }>(
        'SELECT type FROM m2_outbox WHERE entity = $1 ORDER BY sequence',
        [entity],
      );
      return rows.map(({ type }) => type);
    },
    close: () => env.close(),
  };
}
export type TestIscsi = Awaited<ReturnType<typeof openIscsi>>;
