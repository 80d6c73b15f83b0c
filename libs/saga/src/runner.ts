import type { Operation, OperationKind, WayOut } from '@m2/contracts';
import { type Kit, meter, Periodic, type Sql } from '@m2/service-kit';
import { v7 as uuidv7 } from 'uuid';
import { Claims } from './claims.js';
import type { Commission } from './commission.js';
import { Execution, type ExecutionParts } from './execution.js';
import { Journal, type StepRow } from './journal.js';
import { isSameGraph } from './graph.js';
import type { SagaRegistry } from './registry.js';
import { type Limits, Room } from './room.js';
import { newStep, type OperationRow } from './rows.js';
import { type Saga, type Skip, stepsOf } from './saga.js';
import { OperationStore } from './store.js';
import { WaysOut } from './ways-out.js';

/** How often leases are renewed, and operations that nobody runs looked for. */
const heartbeatMs = 3_000;
/** Operations that end so soon after the first one make room together: what waits is looked for once. */
const lingerMs = 20;
/** An operation that ran here for this long does not end its runners: that earlier ones died is forgotten. */
const steadyMs = 60_000;
/** So many runners in a row may die, or give up, before a step comes to its end. Then a person is asked. */
const mostTakeovers = 10;

export interface RunnerOptions extends Limits {
  sagas: SagaRegistry;
  /** Name of this replica; one that comes back under its name takes its own operations up at once. */
  instance: string;
  /** The table that has a row for each project, in the schema of the service. */
  projects: string;
  /** Tells whoever watches that the operation changed. */
  changed(operation: string): void;
}

interface Running {
  execution: Execution;
  row: OperationRow;
  since: number;
  done: Promise<void>;
}

/**
 * Runs operations: those accepted here at once, those that wait and those of dead replicas when there is room. A provider of a Nest module.
 */
export class Runner {
  /** This life of the replica, among those that say that they live. */
  readonly id = uuidv7();
  readonly store: OperationStore;
  private readonly journal: Journal;
  private readonly claims: Claims;
  private readonly waysOut: WaysOut;
  private readonly running = new Map<string, Running>();
  private readonly seconds = meter().createHistogram('m2_operation_step_seconds', {
    description: 'Time from the intent of a step to its outcome',
    unit: 's',
  });
  private readonly heartbeats: Periodic;
  /** After each heartbeat, and when there may be something to take. */
  private readonly claiming: Periodic;
  /** Operations that only wait take none: else a few uploads that never come would stop everybody's. */
  private readonly room: Room;
  /** Operations wait in the database for room in some replica. */
  private backlog = false;
  private lingering: NodeJS.Timeout | undefined;
  /** What the running operations are about, so that an event wakes those that it concerns, and no others. */
  private readonly concerned = new Map<string, Execution>();

  constructor(
    private readonly kit: Kit,
    private readonly options: RunnerOptions,
  ) {
    const { sagas, instance, projects } = options;
    this.store = new OperationStore(kit, sagas, projects);
    this.journal = new Journal(kit.database);
    this.claims = new Claims(kit, { id: this.id, instance, knows: sagas.known });
    this.waysOut = new WaysOut(kit.database, this.store, sagas);
    this.room = new Room(options, () =>
      [...this.running.values()].filter(({ execution }) => !execution.onlyWaits).map(({ row }) => row.project),
    );
    this.heartbeats = new Periodic({
      everyMs: heartbeatMs,
      work: () => this.heartbeat(),
      onError: (error) => kit.log.warn({ err: error }, 'leases could not be renewed'),
    });
    this.claiming = new Periodic({
      everyMs: heartbeatMs,
      work: () => this.claim(),
      onError: (error) => kit.log.warn({ err: error }, 'operations could not be claimed'),
    });
  }

  async onModuleInit(): Promise<void> {
    await this.claims.beAlive();
    // An earlier process of this name is dead: its leases need not be waited for.
    if (this.kit.wasAlone) for (const { row, steps } of await this.claims.reclaim()) this.execute(row, steps);
    this.heartbeats.start();
    this.heartbeats.wake();
  }

  async onApplicationShutdown(): Promise<void> {
    await Promise.all([this.claiming.stop(), this.heartbeats.stop()]);
    const left = [...this.running.values()];
    for (const { execution } of left) execution.stop();
    await Promise.allSettled(left.map(({ done }) => done));
    await this.claims.release(left.map(({ row }) => row)).catch((error: unknown) => {
      this.kit.log.warn({ err: error }, 'leases could not be given back; they end by themselves');
    });
  }

  /**
   * Accepts an operation and starts it here, when there is room; else whoever has room takes it from the database. `about` is what it makes
   * or changes, by identifier; `also` is written with it, or not at all. With `notBefore` it waits for that moment.
   */
  async begin<Input extends object>(
    { id = uuidv7(), actor, project }: Commission,
    kind: OperationKind,
    input: Input,
    about: Record<string, string>,
    also?: (sql: Sql, operation: string) => Promise<void>,
    notBefore?: Date,
  ): Promise<Operation> {
    const operation = { id, project: project.id, kind, input, about, actor, notBefore };
    const saga = this.options.sagas.newest(kind);
    const create = async (runner: string | null) => {
      const { row, operation: accepted } = await this.store.create(
        saga,
        operation,
        runner,
        also && ((sql) => also(sql, operation.id)),
      );
      if (row) this.execute(row, stepsOf(saga, input as never).map(newStep));
      return accepted;
    };
    const isRoom = !this.claiming.signal.aborted && this.room.isThereFor(project.id);
    // Who came earlier goes first.
    if (isRoom && !notBefore && !this.backlog) return this.room.during(project.id, () => create(this.options.instance));
    this.backlog = true;
    const accepted = await create(null);
    if (isRoom) this.claiming.wake();
    return accepted;
  }

  /**
   * A person stops an operation. `decision` names the request, here and in the next three: one that comes again decides nothing again.
   * Throws M2Error `operation.not_found`, `operation.not_cancellable`.
   */
  async cancel(id: string, decision = uuidv7()): Promise<void> {
    if (!(await this.store.requestCancel(id, decision))) return;
    this.running.get(id)?.execution.cancel();
    this.claiming.wake();
  }

  /** Throws M2Error `operation.not_found`, `operation.not_resumable`. */
  async resume(id: string, decision = uuidv7()): Promise<void> {
    if (await this.store.resume(id, decision)) this.claiming.wake();
  }

  /** What leaving out a stuck step would leave behind. Throws as `skipStep` does. */
  planSkip(id: string, step: string): Promise<WayOut> {
    return this.waysOut.planSkip(id, step);
  }

  /**
   * Leaves out a step that is stuck, or whose service is not there, and lets the operation go on.
   * Throws M2Error `operation.not_found`, `operation.not_resumable`, `operation.step_not_skippable`.
   */
  async skipStep(id: string, step: string, skip: Skip, decision = uuidv7()): Promise<void> {
    if (!(await this.waysOut.skipStep(id, step, skip, decision))) return;
    this.running.get(id)?.execution.stop();
    this.claiming.wake();
  }

  /** What abandoning the operation would leave behind. Throws as `abandon` does. */
  planAbandon(id: string): Promise<WayOut> {
    return this.waysOut.planAbandon(id);
  }

  /**
   * Ends an operation as it is, which needs attention, or waits for a service that is not there. Throws M2Error `operation.not_found`,
   * `operation.not_resumable`.
   */
  async abandon(id: string, why: Skip, decision = uuidv7()): Promise<void> {
    if (!(await this.waysOut.abandon(id, why, decision))) return;
    this.running.get(id)?.execution.stop();
    this.options.changed(id);
  }

  /** Something happened to these things; who waits for one of them looks again. */
  somethingHappened(ids: Iterable<string>): void {
    for (const id of ids) this.concerned.get(id)?.wake();
  }

  /** Takes operations that nobody runs, as many as there is room for. */
  private async claim(): Promise<void> {
    const { free } = this.room;
    if (free <= 0) return;
    const { claimed, waiting } = await this.claims.claim(free, this.room.byProject(), this.options.projectConcurrency);
    for (const { row, steps } of claimed) this.execute(row, steps);
    this.backlog = waiting > claimed.length;
  }

  /** There is room again. */
  private claimSoon(): void {
    if (!this.backlog) return;
    this.lingering ??= setTimeout(() => {
      this.lingering = undefined;
      this.claiming.wake();
    }, lingerMs).unref();
  }

  private async heartbeat(): Promise<void> {
    await this.keepLeases();
    if (await this.claims.beAlive()) await this.claims.parkUnknown();
    // Only now: after a pause of the process, what runs here would be claimed as if nobody had it.
    this.claiming.wake();
  }

  private async keepLeases(): Promise<void> {
    const held = [...this.running.values()].map(({ row: { id, fence }, since }) => ({
      id,
      fence,
      steady: performance.now() - since > steadyMs,
    }));
    if (held.length === 0) return;
    const mine = await this.claims.keepLeases(held);
    for (const { id, fence } of held) {
      const running = this.running.get(id);
      // The fence grows when the operation turns back; only one that did not change here was taken away.
      if (running && !mine.has(id) && running.row.fence === fence) running.execution.stop();
      if (running && mine.get(id)) running.execution.cancel();
    }
  }

  private execute(row: OperationRow, steps: StepRow[]): void {
    try {
      this.tryToRun(row, steps);
    } catch (error) {
      this.kit.log.error({ err: error, operation: row.id }, 'an operation cannot be begun; it will be taken up again');
    }
  }

  private tryToRun(row: OperationRow, steps: StepRow[]): void {
    const saga = this.options.sagas.find(row.kind, row.version);
    if (row.takeovers > mostTakeovers) {
      this.park(row, `${row.takeovers} gateways in a row died of it, or gave it up; their logs say why`);
    } else if (!saga || !isSameGraph(stepsOf(saga, row.input as never), steps)) {
      this.park(row, `its steps are not those that version ${row.version} of ${row.kind} has here`);
    } else this.run(saga, row, steps);
  }

  /** It is not begun again by itself: a person is asked. */
  private park(row: OperationRow, why: string): void {
    const attention = `The operation cannot go on: ${why}. Fix the cause, then run: m2 operation resume ${row.id}`;
    this.store.end(row, { state: 'needs_attention', error: row.error, attention }).then(
      () => this.options.changed(row.id),
      (error: unknown) => this.kit.log.warn({ err: error, operation: row.id }, 'an operation could not be put aside'),
    );
  }

  private run(saga: Saga<never>, row: OperationRow, steps: StepRow[]): void {
    const parts: ExecutionParts = {
      bus: this.kit.bus,
      journal: this.journal,
      store: this.store,
      log: this.kit.log,
      changed: this.options.changed,
      waits: () => this.claimSoon(),
      seconds: this.seconds,
    };
    const execution = new Execution(parts, saga, row, steps);
    const ids = Object.values(row.about);
    for (const id of ids) this.concerned.set(id, execution);
    const done = execution.run().finally(() => {
      // It may have been lost and taken up again here meanwhile; that one is not ours to forget.
      if (this.running.get(row.id)?.execution === execution) this.running.delete(row.id);
      for (const id of ids) if (this.concerned.get(id) === execution) this.concerned.delete(id);
      this.claimSoon();
    });
    this.running.set(row.id, { execution, row, since: performance.now(), done });
  }
}
