import type { Operation, OperationKind } from '@m2/contracts';
import { type Kit, meter, type Session, type Sql } from '@m2/service-kit';
import { v7 as uuidv7 } from 'uuid';
import type { Commission } from './commission.js';
import { Execution } from './execution.js';
import { Journal, type StepRow } from './journal.js';
import type { SagaRegistry } from './registry.js';
import { newStep, type OperationRow, OperationStore } from './store.js';

/** How often leases are renewed, and abandoned operations looked for. */
const heartbeatMs = 3_000;

export interface RunnerOptions {
  sagas: SagaRegistry;
  /** Name of this replica; one that comes back under its name takes its own operations up at once. */
  instance: string;
  /** Operations that this replica works on at the same time. */
  concurrency: number;
  /** Tells whoever watches that the operation changed. */
  changed(operation: string): void;
}

/** Runs operations: those accepted here at once, those of dead replicas when their lease is over. A provider of a Nest module. */
export class Runner {
  readonly store: OperationStore;
  private readonly journal: Journal;
  private readonly executions = new Map<string, { execution: Execution; fence: () => number; done: Promise<void> }>();
  private readonly seconds = meter().createHistogram('m2_operation_step_seconds', {
    description: 'Time from the intent of a step to its outcome',
    unit: 's',
  });
  private timer: NodeJS.Timeout | undefined;
  private beating: Promise<void> | undefined;
  private identity: Session | undefined;
  private stopped = false;
  private accepting = 0;
  /** Operations wait in the database for room in some replica. */
  private backlog = false;
  /** What the running operations are about, so that an event wakes those that it concerns, and no others. */
  private readonly concerned = new Map<string, Execution>();

  constructor(
    private readonly kit: Kit,
    private readonly options: RunnerOptions,
  ) {
    this.store = new OperationStore(kit, options.sagas);
    this.journal = new Journal(kit.database);
  }

  async onModuleInit(): Promise<void> {
    await this.takeUpEarlierLife();
    this.timer = setInterval(() => this.wake(), heartbeatMs);
    this.wake();
  }

  /**
   * The session lock on the replica's name is held as long as this process lives. Whoever gets it knows that an earlier process of
   * that name is dead, and need not wait for its leases.
   */
  private async takeUpEarlierLife(): Promise<void> {
    const { instance } = this.options;
    const session = await this.kit.database.session();
    const [lock] = await session.query<{ mine: boolean }>(
      'SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS mine',
      [`m2 runner ${instance}`],
    );
    if (!lock?.mine) {
      session.release();
      this.kit.log.warn(
        { instance },
        'another replica has this name; operations of a dead one are taken up when their lease ends',
      );
      return;
    }
    this.identity = session;
    for (const { row, steps } of await this.store.reclaim(instance)) this.execute(row, steps);
  }

  async onApplicationShutdown(): Promise<void> {
    this.stopped = true;
    clearInterval(this.timer);
    await this.beating;
    for (const { execution } of this.executions.values()) execution.stop();
    await Promise.allSettled([...this.executions.values()].map(({ done }) => done));
    this.identity?.release(true);
  }

  /**
   * Accepts an operation and starts it here, when there is room; else whoever has room takes it from the database. `about` is what it makes
   * or changes, by identifier; `also` is written with it, or not at all.
   */
  async begin<Input extends object>(
    { id = uuidv7(), actor, project, idempotency }: Commission,
    kind: OperationKind,
    input: Input,
    about: Record<string, string>,
    also?: (sql: Sql, operation: string) => Promise<void>,
  ): Promise<Operation> {
    const operation = { id, project: project.id, kind, input, about, actor, idempotency };
    const saga = this.options.sagas[operation.kind];
    const runner = this.hasRoom() ? this.options.instance : null;
    if (!runner) this.backlog = true;
    // It takes its room before it is on record: of many that come at once, each would find the same room.
    if (runner) this.accepting += 1;
    try {
      const { row, operation: accepted } = await this.store.create(
        saga,
        operation,
        runner,
        also && ((sql) => also(sql, operation.id)),
      );
      const steps = saga.steps.map(({ name }) => newStep(name));
      if (row) this.execute(row, steps);
      return accepted;
    } finally {
      if (runner) this.accepting -= 1;
    }
  }

  async cancel(id: string): Promise<void> {
    await this.store.requestCancel(id);
    this.executions.get(id)?.execution.cancel();
  }

  async resume(id: string): Promise<void> {
    await this.store.resume(id);
    this.wake();
  }

  /** Something happened to these things; who waits for one of them looks again. */
  somethingHappened(ids: Iterable<string>): void {
    for (const id of ids) this.concerned.get(id)?.wake();
  }

  /** Renews the leases and looks for operations that nobody runs. */
  private wake = (): void => {
    if (this.stopped) return;
    this.beating ??= this.beat()
      .catch((error: unknown) => this.kit.log.warn({ err: error }, 'leases could not be renewed'))
      .finally(() => {
        this.beating = undefined;
      });
  };

  private async beat(): Promise<void> {
    const held = [...this.executions].map(([id, { fence }]) => ({ id, fence: fence() }));
    if (held.length > 0) {
      const mine = await this.store.keepLeases(held);
      for (const { id, fence } of held) {
        const running = this.executions.get(id);
        // The fence grows when the operation turns back; only one that did not change here was taken away.
        if (running && !mine.has(id) && running.fence() === fence) running.execution.stop();
        if (running && mine.get(id)) running.execution.cancel();
      }
    }
    do {
      const room = this.options.concurrency - this.busy();
      if (room <= 0) return;
      const claimed = await this.store.claim(this.options.instance, room);
      for (const { row, steps } of claimed) this.execute(row, steps);
      this.backlog = claimed.length === room;
    } while (this.backlog && !this.stopped);
  }

  private hasRoom(): boolean {
    return !this.stopped && this.busy() < this.options.concurrency;
  }

  /** Operations that take room. Those that only wait take none: else a few uploads that never come would stop everybody's operations. */
  private busy(): number {
    const working = [...this.executions.values()].filter(({ execution }) => !execution.onlyWaits);
    return working.length + this.accepting;
  }

  private execute(row: OperationRow, steps: StepRow[]): void {
    const parts = {
      bus: this.kit.bus,
      journal: this.journal,
      store: this.store,
      log: this.kit.log,
      changed: this.options.changed,
      waits: () => {
        if (this.backlog) this.wake();
      },
      seconds: this.seconds,
    };
    const execution = new Execution(parts, this.options.sagas[row.kind], row, steps);
    const ids = Object.values(row.about);
    for (const id of ids) this.concerned.set(id, execution);
    const done = execution.run().finally(() => {
      // It may have been lost and taken up again here meanwhile; that one is not ours to forget.
      if (this.executions.get(row.id)?.execution === execution) this.executions.delete(row.id);
      for (const id of ids) if (this.concerned.get(id) === execution) this.concerned.delete(id);
      if (this.backlog) this.wake();
    });
    this.executions.set(row.id, { execution, fence: () => row.fence, done });
  }
}
