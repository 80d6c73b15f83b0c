import { type ErrorValue, M2Error, type OperationEnd, shown, type StepState } from '@m2/contracts';
import { contextOf, inSpan, SpanKind } from '@m2/service-kit';
import { channel } from 'node:diagnostics_channel';
import { lastSteps, readySteps } from './graph.js';
import { Cancelled, cancelledWith, type Direction, Interrupts } from './interrupts.js';
import { type Journal, LostOperation, type StepRow } from './journal.js';
import type { OperationRow } from './rows.js';
import { isForwardOnly, type Saga, type SagaState, type Step, stepsOf } from './saga.js';
import { StepRunner, type StepRunnerParts } from './step-runner.js';
import type { Ending, OperationStore } from './store.js';

/**
 * `{ kind, operation, step, direction: 'do' | 'undo', phase }`; `intent` when it is on record that the step is about to be done,
 * `answered` when the service has answered and that is not on record yet, `committed` when it is. Synchronous, so that an observer inside the
 * process sees the exact point.
 */
const stepChannel = channel('m2:operation:step');

const firstPauseMs = 100;
const longestPauseMs = 5_000;

export interface ExecutionParts extends StepRunnerParts {
  journal: Pick<Journal, 'write'>;
  store: Pick<OperationStore, 'saveProgress' | 'saveAbsence' | 'turnBack' | 'end'>;
}

type Failure = M2Error | Cancelled;

/** One operation under one runner: drives the steps of its saga, in either direction, to an end. */
export class Execution {
  private readonly steps: Step<never>[];
  private readonly rows: Map<string, StepRow>;
  private readonly state: SagaState<never>;
  private readonly interrupts = new Interrupts();
  private readonly runner: StepRunner;

  constructor(
    private readonly parts: ExecutionParts,
    private readonly saga: Saga<never>,
    private readonly operation: OperationRow,
    rows: StepRow[],
  ) {
    this.steps = stepsOf(saga, operation.input as never);
    this.rows = new Map(rows.map((row) => [row.name, row]));
    this.state = {
      operation: operation.id,
      project: operation.project,
      input: operation.input as never,
      reply: (call, name) => call.reply.parse(this.row(name).reply) as never,
      isSkipped: (name) => this.row(name).skip !== null,
    };
    this.runner = new StepRunner(parts, saga, operation, this.state, this.interrupts);
    if (operation.cancelRequested) this.cancel();
  }

  /** Leaves the operation where it is; another runner, or this one later, goes on. */
  stop(): void {
    this.interrupts.stop();
  }

  /** The steps under way end (they may be waits, which end at once), and then all is undone. */
  cancel(): void {
    this.interrupts.cancel();
  }

  /** Something happened that a wait may wait for. */
  wake(): void {
    this.interrupts.wake();
  }

  /** Nothing is done here for now: somebody's upload, or a node's firmware, takes its time. */
  get onlyWaits(): boolean {
    return this.runner.onlyWaits;
  }

  /** Ends when the operation ended or was lost; never throws. */
  async run(): Promise<void> {
    try {
      await inSpan(
        `operation ${this.saga.kind}`,
        SpanKind.INTERNAL,
        () => (this.operation.undoing ? this.backward() : this.forward()),
        contextOf(this.operation.traceparent ?? undefined),
      );
    } catch (error) {
      // Steps that still wait for something must not go on by themselves.
      this.stop();
      if (error instanceof LostOperation) this.parts.log.info({ operation: this.operation.id }, error.message);
      else
        this.parts.log.error(
          { err: error, operation: this.operation.id },
          'an operation was left; it will be taken up again',
        );
    }
  }

  private async forward(): Promise<void> {
    const running = new Map<string, Promise<{ step: Step<never>; error?: Failure }>>();
    let finished: StepRow[] = this.skipUnwanted();
    let failure: Failure | undefined = this.failureOnRecord();
    let stuck: M2Error | undefined;
    for (;;) {
      const turns = failure !== undefined || this.interrupts.isCancelled;
      const ready = readySteps(this.steps, (name) => this.row(name)).filter(({ name }) => !running.has(name));
      const next = stuck ? [] : ready.filter((step) => !turns || isForwardOnly(this.saga, step));
      const intents = next.map((step) =>
        this.set(step.name, {
          state: 'running',
          // Counted before it is sent: after a crash, nobody else knows that this attempt was made.
          attempts: this.row(step.name).attempts + 1,
          startedAt: this.row(step.name).startedAt ?? now(),
        }),
      );
      if (finished.length + intents.length > 0) await this.record([...finished, ...intents], finished);
      finished = [];
      for (const step of next) running.set(step.name, this.begin(step));
      if (running.size === 0) break;
      // Steps that end together are recorded together.
      const { step, error } = await Promise.race(running.values());
      running.delete(step.name);
      if (error instanceof M2Error && isForwardOnly(this.saga, step)) stuck ??= error;
      else failure = failure instanceof M2Error ? failure : (error ?? failure);
      finished.push(this.row(step.name));
      this.publish(step.name, 'do', 'answered');
    }
    this.interrupts.throwIfStopped();
    if (stuck) return this.needAttention(stuck.toValue());
    if (failure || this.interrupts.isCancelled) return this.turnBack(failure);
    await this.end('succeeded', null);
  }

  /**
   * A runner that died after a failure was on record, and before the turn back: the failure stands. What only goes forward has no other
   * way than to try the step again.
   */
  private failureOnRecord(): M2Error | undefined {
    const failed = this.steps
      .filter((step) => !isForwardOnly(this.saga, step))
      .map(({ name }) => this.row(name))
      .find(({ state, error }) => error && ['failed', 'unknown'].includes(state));
    return failed?.error ? M2Error.fromValue(failed.error) : undefined;
  }

  private skipUnwanted(): StepRow[] {
    return this.steps
      .filter((step) => this.row(step.name).state === 'waiting' && step.when && !step.when(this.state.input))
      .map((step) => this.set(step.name, { state: 'skipped' }));
  }

  private begin(step: Step<never>): ReturnType<Execution['doStep']> {
    const work = this.doStep(step);
    // When one step finds that the operation is lost, nobody waits for the others any more.
    work.catch(() => {});
    return work;
  }

  private async doStep(step: Step<never>): Promise<{ step: Step<never>; error?: Failure }> {
    this.publish(step.name, 'do', 'intent');
    const row = this.row(step.name);
    let isDone = false;
    try {
      if (row.skip) await this.runner.skip(step, row.skip);
      else {
        const reply = await this.runner.do(step, row, !isForwardOnly(this.saga, step), () => (isDone = true));
        this.set(step.name, { reply });
      }
      this.set(step.name, { state: row.skip ? 'skipped' : 'done', endedAt: now(), error: null });
      return { step };
    } catch (error) {
      if (error instanceof LostOperation) throw error;
      const failure = error instanceof Cancelled ? error : M2Error.from(error);
      const value = failure instanceof M2Error ? failure.toValue() : null;
      const state = afterFailure(failure, step, row.attempts <= 1 && !isDone);
      this.set(step.name, { state, error: value, endedAt: now() });
      return { step, error: failure };
    }
  }

  /** `failure`: absent when a person cancelled and nothing had failed. A cancel wins: who asked for the end is told that it came. */
  private async turnBack(failure: Failure | undefined): Promise<void> {
    const ifCancelled = cancelledWith(failure);
    const error = failure instanceof M2Error && !this.interrupts.isCancelled ? failure.toValue() : ifCancelled;
    // A new fence: whatever of the old direction still travels is refused from the first undo on.
    Object.assign(this.operation, await this.parts.store.turnBack(this.operation, error, ifCancelled), {
      undoing: true,
    });
    this.parts.changed(this.operation.id);
    return this.backward();
  }

  /** Undoes, in reverse, every step that was done or may have been; steps that did not wait for each other are undone together. */
  private async backward(): Promise<void> {
    const isOpen = (step: Step<never>) => ['done', 'unknown', 'running', 'undoing'].includes(this.row(step.name).state);
    for (;;) {
      const open = this.steps.filter((step) => isOpen(step) && step.undo && !isForwardOnly(this.saga, step));
      if (open.length === 0) break;
      const last = lastSteps(this.steps, open);
      await this.record(
        last.map(({ name }) =>
          this.set(name, { state: 'undoing', undoStartedAt: this.row(name).undoStartedAt ?? now() }),
        ),
      );
      const outcomes = await Promise.allSettled(last.map((step) => this.undoStep(step)));
      const failed = outcomes.filter((outcome) => outcome.status === 'rejected').map(({ reason }) => reason as unknown);
      const lost = failed.find((reason) => reason instanceof LostOperation);
      if (lost) throw lost;
      await this.record(
        last.map((step) => this.row(step.name)),
        last.map((step) => this.row(step.name)),
      );
      if (failed.length > 0) return this.needAttention(M2Error.from(failed[0]).toValue());
    }
    const isCancelled = this.operation.error?.code === 'operation.cancelled';
    await this.end(isCancelled ? 'cancelled' : 'failed', this.operation.error);
  }

  private async undoStep(step: Step<never>): Promise<void> {
    this.publish(step.name, 'undo', 'intent');
    const { skip } = this.row(step.name);
    try {
      if (skip) await this.runner.skip(step, skip);
      else await this.runner.undo(step);
      this.set(step.name, { state: skip ? 'skipped' : 'undone', undoEndedAt: now() });
    } catch (error) {
      if (!(error instanceof LostOperation))
        this.set(step.name, { state: 'unknown', error: M2Error.from(error).toValue(), undoEndedAt: now() });
      throw error;
    } finally {
      this.publish(step.name, 'undo', 'answered');
    }
  }

  /** What is left stays locked, and a person is told what it is. */
  private async needAttention(error: ErrorValue): Promise<void> {
    const { undoing, id } = this.operation;
    // On the way back, a step that failed without touching anything is not left; on the only way on, it is.
    const settled = undoing ? ['waiting', 'skipped', 'undone', 'failed'] : ['waiting', 'skipped', 'done'];
    const names = this.steps
      .filter((step) => !settled.includes(this.row(step.name).state))
      .filter((step) => (undoing ? step.undo : isForwardOnly(this.saga, step)))
      .map(({ name }) => name);
    const what = undoing ? 'could not be undone' : 'could not be finished';
    const { detail } = shown(error);
    const attention =
      `${names.join(', ')} ${what}: ${detail.replace(/\.$/, '')}. ` +
      `Fix the cause, then run: m2 operation resume ${id}`;
    await this.leave({ state: 'needs_attention', error: this.operation.error ?? error, attention });
  }

  private end(state: OperationEnd, error: ErrorValue | null): Promise<void> {
    return this.leave({ state, error, attention: null });
  }

  private async leave(ending: Ending): Promise<void> {
    const { settle } = this.saga;
    await this.parts.store.end(this.operation, ending, settle && ((sql) => settle(sql, this.state, ending.state)));
    this.parts.changed(this.operation.id);
  }

  private async record(rows: StepRow[], ended: StepRow[] = []): Promise<void> {
    // A database that is away is waited for, as everything else is: the steps wait with it.
    for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(longestPauseMs, pauseMs * 2)) {
      this.interrupts.throwIfStopped();
      try {
        const copies = rows.map((row) => ({ ...row }));
        await this.parts.journal.write(this.operation, copies);
        break;
      } catch (error) {
        if (error instanceof LostOperation) throw error;
        this.parts.log.warn({ err: error, operation: this.operation.id }, 'the journal cannot be written for now');
        await this.interrupts.pause(pauseMs, 'undo');
      }
    }
    for (const row of ended) this.publish(row.name, this.operation.undoing ? 'undo' : 'do', 'committed');
    this.parts.changed(this.operation.id);
  }

  private row(name: string): StepRow {
    const row = this.rows.get(name);
    if (!row) throw new Error(`Operation ${this.operation.id} has no step ${name}`);
    return row;
  }

  private set(name: string, change: Partial<StepRow>): StepRow {
    return Object.assign(this.row(name), change);
  }

  private publish(step: string, direction: Direction, phase: 'intent' | 'answered' | 'committed'): void {
    stepChannel.publish({ kind: this.saga.kind, operation: this.operation.id, step, direction, phase });
  }
}

/**
 * `failed` says that there is nothing to undo. That is certain only when the first and only command never reached what it was for; in any
 * other case the step may have happened, in part or after all. `isOnlyCommand`: it is that command that failed, and not a wait after it.
 * What its handler refused touched nothing either. That is believed only of a step that cannot be undone: an undo costs little, and is right
 * also when a handler is wrong.
 */
const afterFailure = (failure: Failure, { undo }: Step<never>, isOnlyCommand: boolean): StepState => {
  if (!(failure instanceof M2Error) || !isOnlyCommand) return 'unknown';
  return failure.untouched || (failure.refused && !undo) ? 'failed' : 'unknown';
};

const now = () => new Date().toISOString();
