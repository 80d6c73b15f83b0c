import { type Call, M2Error, type Operation, type OperationKind } from '@m2/contracts';
import { Runner, type Saga, SagaRegistry, stepsOf } from '@m2/saga';
import type { Kit, Session } from '@m2/service-kit';
import { type TestEnvironment, openTestEnvironment, until } from '@m2/service-kit/testing';
import { Module } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { earlierSagas, sagas } from '../sagas/index.js';
import { gatewayService } from '../service.js';

@Module({})
class NothingModule {}

const id = uuidv7();
const disk = {
  id,
  project: id,
  name: 'web-1',
  state: 'ready',
  image: null,
  fork: null,
  depth: 0,
  volume: '1img1',
  sizeBytes: 1,
  holder: id,
  flattening: null,
  createdAt: '2026-11-29T00:00:00.000Z',
  trashedAt: null,
};
/** What operations read of their answers. Everything else is answered with nothing. */
const replies: Record<string, unknown> = {
  'm2.cmd.image.disk.attach': { disk, backing: { type: 'file', path: '/x' } },
  'm2.qry.image.disk.show': disk,
  'm2.qry.image.image.show': { state: 'ready' },
  'm2.qry.boot.config.show': { state: 'booted' },
};

/** Services that say yes to everything; a test may hold commands back, or make them fail. */
export class YesServices {
  /** The effect keys that reached them, in order. */
  readonly sent: string[] = [];
  /** Answers for an effect key whether it waits, or with what it fails. */
  rule: (effect: string) => Promise<void> | M2Error | undefined = () => undefined;

  private held = Promise.withResolvers<void>();

  /** Whatever comes from now on waits for `release`. */
  hold(): void {
    this.rule = () => this.held.promise;
  }

  release(): void {
    this.rule = () => undefined;
    this.held.resolve();
    this.held = Promise.withResolvers();
  }

  request = async (call: Call, _input: unknown, { effect }: { effect?: string }): Promise<unknown> => {
    if (effect) {
      this.sent.push(effect);
      const outcome = this.rule(effect);
      if (outcome instanceof M2Error) throw outcome;
      await outcome;
    }
    return replies[call.subject] ?? { state: 'done' };
  };
}

/** A runner on its own, as a replica of the gateway has it. */
export interface TestRunner {
  runner: Runner;
  services: YesServices;
  /** Ends it in good order. */
  stop(): Promise<void>;
  /** It dies: it hears and says nothing more. */
  kill(): void;
}

/**
 * The gateway's database, with two projects, and runners on it that know whichever sagas a test gives them. `before` sees the database
 * before the gateway does.
 */
export async function openRunners(before?: (databaseUrl: string) => Promise<void>) {
  const env: TestEnvironment = await openTestEnvironment();
  const databaseUrl = await env.postgres.database();
  await before?.(databaseUrl);
  const environment = { M2_DATABASE_URL: databaseUrl, M2_LISTEN: '127.0.0.1:0' };
  const quiet = { write: () => true } as unknown as NodeJS.WritableStream;
  const definition = { ...gatewayService, module: NothingModule };
  const { kit } = await env.run(definition, environment, quiet);
  const projects = [uuidv7(), uuidv7()];
  for (const [at, project] of projects.entries())
    await kit.database.query('INSERT INTO projects (id, name) VALUES ($1, $2)', [project, `lab-${at}`]);
  let count = 0;
  /** How to stop those that live. */
  const started = new Set<() => Promise<void>>();

  const start = async (
    known: { current?: Record<OperationKind, Saga<never>>; earlier?: Saga<never>[] } = {},
    more: { instance?: string; concurrency?: number; projectConcurrency?: number } = {},
  ): Promise<TestRunner> => {
    const services = new YesServices();
    let dead = false;
    /** It holds the lock on the replica's name, and ends with the process. */
    let session: Session | undefined;
    /** Who is dead waits for ever. */
    const living = <T>(answer: Promise<T>): Promise<T> =>
      answer.then(
        (value) => (dead ? new Promise<never>(() => {}) : value),
        (error: unknown) => (dead ? new Promise<never>(() => {}) : Promise.reject(error as Error)),
      );
    const database = new Proxy(kit.database, {
      get: (target, key) => {
        if (key === 'query')
          return (...args: Parameters<typeof target.query>) =>
            dead ? new Promise(() => {}) : living(target.query(...args));
        if (key === 'session') return async () => (session = await target.session());
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === 'function' ? (value as (...args: never[]) => unknown).bind(target) : value;
      },
    });
    const own = {
      ...kit,
      database,
      bus: { request: (...args: Parameters<YesServices['request']>) => living(services.request(...args)) },
      transact: (work: Parameters<Kit['transact']>[0]) => (dead ? new Promise(() => {}) : living(kit.transact(work))),
    } as unknown as Kit;
    const runner = new Runner(own, {
      sagas: new SagaRegistry(known.current ?? sagas, known.earlier ?? earlierSagas),
      instance: more.instance ?? `runner-${(count += 1)}`,
      concurrency: more.concurrency ?? 64,
      projectConcurrency: more.projectConcurrency ?? 64,
      projects: 'projects',
      changed: () => {},
    });
    await runner.onModuleInit();
    const stop = () => {
      started.delete(stop);
      return runner.onApplicationShutdown();
    };
    started.add(stop);
    const kill = () => {
      dead = true;
      started.delete(stop);
      void runner.onApplicationShutdown();
      session?.release(true);
    };
    return { runner, services, stop, kill };
  };

  const show = (runner: Runner, operation: string): Promise<Operation> => runner.store.show(operation);
  return {
    kit,
    projects,
    start,
    begin: (runner: Runner, kind: OperationKind, project = projects[0]!, notBefore?: Date) =>
      runner.begin(
        { actor: { token: uuidv7(), name: 'test' }, project: { id: project } },
        kind,
        inputs[kind],
        {},
        undefined,
        notBefore,
      ),
    /** Waits until it ends, or needs a person. */
    ended: (runner: Runner, operation: { id: string }) =>
      until(`operation ${operation.id} ends`, async () => {
        const now = await show(runner, operation.id);
        return now.endedAt || now.state === 'needs_attention' ? now : undefined;
      }),
    /** As if whoever runs it had been asleep for longer than its lease. */
    expire: (operation: string) =>
      kit.database.query(`UPDATE operations SET lease_until = now() - interval '1 second' WHERE id = $1`, [operation]),
    /** As if all that live had lived for an hour, and all others had been dead for one. */
    anHourPasses: (alive: TestRunner[]) =>
      kit.database.query(
        `UPDATE saga_runners SET since = now() - interval '1 hour',
           seen_at = CASE WHEN id = ANY($1) THEN seen_at ELSE now() - interval '1 hour' END`,
        [alive.map(({ runner }) => runner.id)],
      ),
    /** Also ends the runners that a failed test has left: they would keep the database open. */
    close: async () => {
      await Promise.all([...started].map((stop) => stop()));
      await env.close();
    },
  };
}

export type TestRunners = Awaited<ReturnType<typeof openRunners>>;

/** An input for each kind: a new kind does not compile without one. */
export const inputs = {
  provision: { provision: id, node: id, disk: id, image: id, exportId: id, bootConfig: id, waitFor: 'ready' },
  deprovision: { provision: id, node: id, disk: id, exportId: id, bootConfig: id, deleteDisk: true },
  'disk.create': { disk: id, name: 'web-1', from: { kind: 'image', image: id } },
  'disk.update': { disk: id, name: 'web-2' },
  'disk.tag': { tag: id, disk: id, name: 'then' },
  'disk.untag': { tag: id, disk: id },
  'disk.rollback': { disk: id, tag: 'then' },
  'disk.flatten': { disk: id },
  'disk.delete': { disk: id, purge: false },
  'disk.restore': { disk: id },
  'image.import': { imageId: id, name: 'ubuntu' },
  'image.update': { image: id, name: 'debian' },
  'image.export': { exportId: id, image: id, volume: 'vms/x' },
  'image.delete': { image: id },
} satisfies Record<OperationKind, object>;

/** Every saga with one more step at its end, as its next version has it. */
export const nextVersion = (): Record<OperationKind, Saga<never>> =>
  Object.fromEntries(
    Object.entries(sagas).map(([kind, saga]) => {
      const steps = stepsOf(saga, inputs[kind as OperationKind] as never);
      const last = steps.at(-1)!;
      const isolate = { ...last, name: 'isolate-nic', after: steps.map(({ name }) => name), when: () => true };
      return [kind, { ...saga, version: saga.version + 1, steps: [...steps, isolate] }];
    }),
  ) as Record<OperationKind, Saga<never>>;
