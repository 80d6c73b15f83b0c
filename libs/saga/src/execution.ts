import { type ErrorValue, M2Error, type OperationState, shown, type StepState } from '@m2/contracts';
import { type Bus, contextOf, inSpan, type Logger, type meter, SpanKind } from '@m2/service-kit';
import { channel } from 'node:diagnostics_channel';
import { type Journal, LostOperation, type StepRow } from './journal.js';
import { pause } from './pause.js';
import type { CallSpec, Saga, SagaState, Step, WaitOutcome } from './saga.js';
import type { OperationRow, OperationStore } from './store.js';

/**
 * `{ kind, operation, step, direction: 'do' | 'undo', phase }`; `intent` when it is on record that the step is about to be done,
 * `answered` when the service has answered and that is not on record yet, `committed` when it is. Synchronous, so that an observer inside the
 * process sees the exact point.
 */
const stepChannel = channel('m2:operation:step');

const retryFirstMs = 100;
const retryMostMs = 5_000;
/** A call is given up, and made again, after this time; the step's own deadline is usually longer. */
const callMs = 60_000;
/** For how long an undo, or a step of a saga that only goes forward, is tried against an error before a person is asked. */
const patienceMs = 30_000;

export interface ExecutionParts {
  bus: Bus;
  journal: Journal;
  store: OperationStore;
  log: Logger;
  /** Tells whoever watches that the operation changed. */
  changed(operation: string): void;
  /** The operation does nothing but wait from here on. */
  waits(): void;
  seconds: ReturnType<ReturnType<typeof meter>['createHistogram']>;
}

type Direction = 'do' | 'undo';

class Cancelled extends Error {}

/** One operation under one runner: drives the steps of its saga, in either direction, to an end. */
export class Execution {
  private readonly steps: Map<string, StepRow>;
  private readonly state: SagaState<never>;
  private readonly stopping = new AbortController();
  private readonly cancelling = new AbortController();
  private wakeUp = Promise.withResolvers<void>();
  private stepsUnderWay = 0;
  private stepsThatWait = 0;

  constructor(
    private readonly parts: ExecutionParts,
    private readonly saga: Saga<never>,
    private readonly operation: OperationRow,
    steps: StepRow[],
  ) {
    this.steps = new Map(steps.map((step) => [step.name, step]));
    this.state = {
      operation: operation.id,
      project: operation.project,
      input: operation.input as never,
      reply: (call, name) => call.reply.parse(this.row(name).reply) as never,
    };
    if (operation.cancelRequested) this.cancel();
  }

  /** Leaves the operation where it is; another runner, or this one later, goes on. */
  stop(): void {
    this.stopping.abort(new LostOperation('the runner stops'));
  }

  /** The steps under way end (they may be waits, which end at once), and then all is undone. */
  cancel(): void {
    this.cancelling.abort(new Cancelled());
  }

  /** Something happened that a wait may wait for. */
  wake(): void {
    this.wakeUp.resolve();
    this.wakeUp = Promise.withResolvers();
  }

  /** Nothing is done here for now: somebody's upload, or a node's firmware, takes its time. */
  get onlyWaits(): boolean {
    return this.stepsThatWait > 0 && this.stepsThatWait === this.stepsUnderWay;
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
    const running = new Map<string, Promise<{ step: Step<never>; error?: M2Error | Cancelled }>>();
    let finished: StepRow[] = this.skipUnwanted();
    let failure: M2Error | Cancelled | undefined = this.failureOnRecord();
    for (;;) {
      const next = failure || this.cancelling.signal.aborted ? [] : this.ready(running);
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
      const first = await Promise.race(running.values());
      running.delete(first.step.name);
      failure = this.worse(failure, first.error);
      finished.push(this.row(first.step.name));
      this.publish(first.step.name, 'do', 'answered');
    }
    this.stopping.signal.throwIfAborted();
    if (failure || this.cancelling.signal.aborted) return this.turnBack(failure ?? new Cancelled());
    await this.end('succeeded', null);
  }

  /**
   * A runner that died after a failure was on record, and before the turn back: the failure stands. What only goes forward has no other
   * way than to try the step again.
   */
  private failureOnRecord(): M2Error | undefined {
    if (this.saga.forwardOnly) return undefined;
    const failed = [...this.steps.values()].find(({ state, error }) => error && ['failed', 'unknown'].includes(state));
    return failed?.error ? M2Error.fromValue(failed.error) : undefined;
  }

  /** A crash between intent and outcome leaves a step `running`: it is done again. */
  private ready(running: Map<string, unknown>): Step<never>[] {
    const settled = (name: string) => ['done', 'skipped'].includes(this.row(name).state);
    return this.saga.steps.filter(
      (step) =>
        !running.has(step.name) &&
        ['waiting', 'running', 'unknown', 'failed'].includes(this.row(step.name).state) &&
        step.after.every(settled),
    );
  }

  private skipUnwanted(): StepRow[] {
    return this.saga.steps
      .filter((step) => this.row(step.name).state === 'waiting' && step.when && !step.when(this.state.input))
      .map((step) => this.set(step.name, { state: 'skipped' }));
  }

  private begin(step: Step<never>): ReturnType<Execution['doStep']> {
    const work = this.doStep(step);
    // When one step finds that the operation is lost, nobody waits for the others any more.
    work.catch(() => {});
    return work;
  }

  private async doStep(step: Step<never>): Promise<{ step: Step<never>; error?: M2Error | Cancelled }> {
    this.publish(step.name, 'do', 'intent');
    const started = performance.now();
    this.stepsUnderWay += 1;
    try {
      const until = Date.now() + deadlineOf(step, this.state.input);
      let reply: unknown = step.do ? await this.send(step, 'do', step.do(this.state), until) : null;
      if (step.wait) {
        this.stepsThatWait += 1;
        if (this.onlyWaits) this.parts.waits();
        reply = await this.waitFor(step, until).finally(() => (this.stepsThatWait -= 1));
      }
      this.set(step.name, { state: 'done', reply, endedAt: now(), error: null });
      return { step };
    } catch (error) {
      if (error instanceof LostOperation) throw error;
      const failure = error instanceof Cancelled ? error : M2Error.from(error);
      const value = failure instanceof M2Error ? failure.toValue() : null;
      this.set(step.name, { state: this.afterFailure(step, failure), error: value, endedAt: now() });
      return { step, error: failure };
    } finally {
      this.stepsUnderWay -= 1;
      this.parts.seconds.record((performance.now() - started) / 1000, { kind: this.saga.kind, step: step.name });
    }
  }

  /**
   * `failed` says that there is nothing to undo. That is certain only when the first and only command never reached what it
   * was for; in any other case the step may have happened, in part or after all.
   */
  private afterFailure(step: Step<never>, failure: M2Error | Cancelled): StepState {
    const untouched = failure instanceof M2Error && failure.untouched && this.row(step.name).attempts <= 1;
    return untouched ? 'failed' : 'unknown';
  }

  /** Sends a step's command until it is answered. Throws M2Error, Cancelled, LostOperation. */
  private async send(step: Step<never>, direction: Direction, spec: CallSpec, until: number): Promise<unknown> {
    let waitMs = retryFirstMs;
    let deadline = until;
    // What cannot be undone, or has no way back, is tried for a while even against an error that looks final.
    let patience = direction === 'undo' || this.saga.forwardOnly ? Math.min(until, Date.now() + patienceMs) : 0;
    for (;;) {
      const sentAt = Date.now();
      try {
        return await this.parts.bus.request(spec.call, spec.input as never, {
          deadlineMs: Math.max(1_000, Math.min(callMs, deadline - sentAt)),
          effect: `${this.operation.id}/${step.name}/${direction}`,
          fence: this.operation.fence,
        });
      } catch (error) {
        const failure = M2Error.from(error);
        if (failure.code === 'fence.stale') throw new LostOperation(failure.detail);
        // A service that is not there at all has done nothing wrong, and nothing: its absence is waited out.
        if (failure.code === 'service.unavailable') {
          deadline += Date.now() - sentAt + waitMs;
          patience += Date.now() - sentAt + waitMs;
        } else if (Date.now() + waitMs > (failure.retryable ? deadline : patience)) throw failure;
        this.parts.log.info(
          { operation: this.operation.id, step: step.name, code: failure.code },
          'a step is tried again',
        );
      }
      await this.pause(waitMs, direction);
      this.set(step.name, { attempts: this.row(step.name).attempts + 1 });
      waitMs = Math.min(retryMostMs, waitMs * 2);
    }
  }

  private async waitFor(step: Step<never>, until: number): Promise<unknown> {
    const wait = step.wait!;
    const { call, input } = wait.query(this.state);
    let deadline = until;
    for (let lookedAt = Date.now(); ; lookedAt = Date.now()) {
      // Taken before the look: what happens during it ends the pause at once.
      const woken = this.wakeUp.promise;
      const look = await this.look(
        () => this.parts.bus.request(call, input as never, { deadlineMs: 10_000 }),
        wait.look,
      );
      if (typeof look === 'object' && 'done' in look) return look.done;
      if (typeof look === 'object' && 'failed' in look) throw M2Error.fromValue(look.failed);
      if (look === 'nobody there') deadline += Date.now() - lookedAt + wait.everyMs;
      else if (look) this.progress(step.name, look.progress);
      if (Date.now() > deadline) throw new M2Error(wait.timeout.code, wait.timeout.detail);
      await this.pause(wait.everyMs, 'do', woken);
    }
  }

  /** A look that fails for now is no answer; the next one may be. As in `send`, time without the service does not count. */
  private async look(
    ask: () => Promise<unknown>,
    read: (reply: unknown) => WaitOutcome,
  ): Promise<WaitOutcome | 'nobody there' | undefined> {
    try {
      return read(await ask());
    } catch (error) {
      const failure = M2Error.from(error);
      if (failure.code === 'service.unavailable') return 'nobody there';
      if (failure.retryable) return undefined;
      throw failure;
    }
  }

  private progress(step: string, progress: { done: number; total: number | null; text: string } | null): void {
    void this.parts.store.saveProgress(this.operation, step, progress).then((changed) => {
      if (changed) this.parts.changed(this.operation.id);
    });
  }

  private async pause(ms: number, direction: Direction, earlier?: Promise<void>): Promise<void> {
    this.stopping.signal.throwIfAborted();
    if (direction === 'do') this.cancelling.signal.throwIfAborted();
    const timer = new AbortController();
    const signals = [timer.signal, this.stopping.signal, ...(direction === 'do' ? [this.cancelling.signal] : [])];
    try {
      await Promise.race([pause(ms, AbortSignal.any(signals)), ...(earlier ? [earlier] : [])]);
    } catch {
      this.stopping.signal.throwIfAborted();
      this.cancelling.signal.throwIfAborted();
    } finally {
      timer.abort();
    }
  }

  private async turnBack(cause: M2Error | Cancelled): Promise<void> {
    const error: ErrorValue =
      cause instanceof M2Error ? cause.toValue() : { code: 'operation.cancelled', detail: 'Cancelled on request' };
    if (this.saga.forwardOnly && cause instanceof M2Error) return this.needAttention(error);
    // A new fence: whatever of the old direction still travels is refused from the first undo on.
    const fence = await this.parts.store.turnBack(this.operation, error);
    this.operation.fence = fence;
    this.operation.error = error;
    this.operation.undoing = true;
    this.parts.changed(this.operation.id);
    return this.backward();
  }

  /** Undoes, in reverse, every step that was done or may have been; steps that did not wait for each other are undone together. */
  private async backward(): Promise<void> {
    const isOpen = (step: Step<never>) => ['done', 'unknown', 'running', 'undoing'].includes(this.row(step.name).state);
    let stuck: M2Error | undefined;
    for (;;) {
      const open = this.saga.steps.filter((step) => isOpen(step) && step.undo);
      if (open.length === 0) break;
      const last = open.filter((step) => !open.some((other) => this.dependsOn(other, step.name)));
      await this.record(last.map((step) => this.set(step.name, { state: 'undoing' })));
      const outcomes = await Promise.allSettled(last.map((step) => this.undoStep(step)));
      const lost = outcomes.find((outcome) => outcome.status === 'rejected' && outcome.reason instanceof LostOperation);
      if (lost?.status === 'rejected') throw lost.reason;
      await this.record(
        last.map((step) => this.row(step.name)),
        last.map((step) => this.row(step.name)),
      );
      const failed = outcomes.find((outcome) => outcome.status === 'rejected');
      if (failed?.status === 'rejected') {
        stuck = M2Error.from(failed.reason);
        break;
      }
    }
    if (stuck) return this.needAttention(stuck.toValue());
    const cancelled = this.operation.error?.code === 'operation.cancelled';
    await this.end(cancelled ? 'cancelled' : 'failed', this.operation.error);
  }

  private dependsOn(step: Step<never>, name: string): boolean {
    return step.after.some(
      (before) =>
        before === name ||
        this.dependsOn(
          this.saga.steps.find((s) => s.name === before)!,
          name,
        ),
    );
  }

  private async undoStep(step: Step<never>): Promise<void> {
    this.publish(step.name, 'undo', 'intent');
    try {
      await this.send(step, 'undo', step.undo!(this.state), Date.now() + deadlineOf(step, this.state.input));
      this.set(step.name, { state: 'undone', error: this.row(step.name).error });
    } catch (error) {
      if (!(error instanceof LostOperation))
        this.set(step.name, { state: 'unknown', error: M2Error.from(error).toValue() });
      throw error;
    } finally {
      this.publish(step.name, 'undo', 'answered');
    }
  }

  /** What is left stays locked, and a person is told what it is. */
  private async needAttention(error: ErrorValue): Promise<void> {
    // On the way back, a step that failed without touching anything is not left; on the only way on, it is.
    const settled = this.operation.undoing
      ? ['waiting', 'skipped', 'undone', 'failed']
      : ['waiting', 'skipped', 'done'];
    const names = this.saga.steps
      .filter((step) => !settled.includes(this.row(step.name).state) && (step.undo || !this.operation.undoing))
      .map((step) => step.name);
    const what = this.operation.undoing ? 'could not be undone' : 'could not be finished';
    const { detail } = shown(error);
    const attention = `${names.join(', ')} ${what}: ${detail.replace(/\.$/, '')}. Mend the cause, then run: m2 operation resume ${this.operation.id}`;
    await this.parts.store.end(
      this.operation,
      this.saga,
      this.state,
      'needs_attention',
      this.operation.error ?? error,
      attention,
    );
    this.parts.changed(this.operation.id);
  }

  private async end(state: OperationState, error: ErrorValue | null): Promise<void> {
    await this.parts.store.end(this.operation, this.saga, this.state, state, error, null);
    this.parts.changed(this.operation.id);
  }

  private async record(rows: StepRow[], ended: StepRow[] = []): Promise<void> {
    // A database that is away is waited for, as everything else is: the steps wait with it.
    for (let waitMs = retryFirstMs; ; waitMs = Math.min(retryMostMs, waitMs * 2)) {
      this.stopping.signal.throwIfAborted();
      try {
        await this.parts.journal.write(
          this.operation.id,
          this.operation.fence,
          rows.map((row) => ({ ...row })),
        );
        break;
      } catch (error) {
        if (error instanceof LostOperation) throw error;
        this.parts.log.warn({ err: error, operation: this.operation.id }, 'the journal cannot be written for now');
        await pause(waitMs);
      }
    }
    for (const row of ended) this.publish(row.name, this.operation.undoing ? 'undo' : 'do', 'committed');
    this.parts.changed(this.operation.id);
  }

  private worse(
    a: M2Error | Cancelled | undefined,
    b: M2Error | Cancelled | undefined,
  ): M2Error | Cancelled | undefined {
    return a instanceof M2Error ? a : (b ?? a);
  }

  private row(name: string): StepRow {
    const row = this.steps.get(name);
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

const deadlineOf = (step: Step<never>, input: never) =>
  typeof step.deadlineMs === 'number' ? step.deadlineMs : step.deadlineMs(input);

const now = () => new Date().toISOString();
