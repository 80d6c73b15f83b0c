import { M2Error } from '@m2/contracts';
import type { Bus, Logger, meter } from '@m2/service-kit';
import type { Direction, Interrupts } from './interrupts.js';
import { LostOperation, type StepRow } from './journal.js';
import { Patience } from './patience.js';
import type { OperationRow } from './rows.js';
import type { CallSpec, Saga, SagaState, Skip, Step, WaitOutcome } from './saga.js';
import type { OperationStore } from './store.js';

/** A call is given up, and made again, after this time; the step's own deadline is usually longer. */
const callMs = 60_000;
const lookMs = 10_000;

export interface StepRunnerParts {
  bus: Pick<Bus, 'request'>;
  store: Pick<OperationStore, 'saveProgress' | 'saveAbsence'>;
  log: Pick<Logger, 'info' | 'warn' | 'error'>;
  /** Tells whoever watches that the operation changed. */
  changed(operation: string): void;
  /** The operation does nothing but wait from here on. */
  waits(): void;
  seconds: Pick<ReturnType<ReturnType<typeof meter>['createHistogram']>, 'record'>;
}

/** Carries single steps of one operation out: sends their commands until they are answered, and waits for what takes its time. */
export class StepRunner {
  /** What is on record of services that are not there, by step. */
  private readonly absences = new Map<string, string | null>();
  private underWay = 0;
  private waiting = 0;

  constructor(
    private readonly parts: StepRunnerParts,
    private readonly saga: Saga<never>,
    private readonly operation: OperationRow,
    private readonly state: SagaState<never>,
    private readonly interrupts: Interrupts,
  ) {}

  get onlyWaits(): boolean {
    return this.waiting > 0 && this.waiting === this.underWay;
  }

  /**
   * Answers the step's reply, and counts its attempts in its row. `isDone` is called when the command is done: what fails after that is the
   * wait. Throws M2Error, Cancelled, LostOperation.
   */
  async do(step: Step<never>, row: StepRow, hasWayBack: boolean, isDone: () => void): Promise<unknown> {
    const started = performance.now();
    this.underWay += 1;
    try {
      const patience = new Patience(this.deadlineOf(step), hasWayBack);
      const reply = step.do ? await this.send(step, 'do', step.do(this.state), patience, row, hasWayBack) : null;
      if (step.do) isDone();
      return step.wait ? await this.wait(step, patience, hasWayBack) : reply;
    } finally {
      this.underWay -= 1;
      this.parts.seconds.record((performance.now() - started) / 1000, { kind: this.saga.kind, step: step.name });
    }
  }

  /** Throws M2Error, LostOperation. */
  async undo(step: Step<never>): Promise<void> {
    await this.send(step, 'undo', step.undo!(this.state), new Patience(this.deadlineOf(step), false));
  }

  /** Does what stands in for a step that a person leaves out. Throws M2Error, LostOperation. */
  async skip(step: Step<never>, why: Skip): Promise<void> {
    const instead = step.skip?.instead?.(this.state, why);
    if (instead) await this.send(step, 'skip', instead, new Patience(this.deadlineOf(step), false));
  }

  private async send(
    step: Step<never>,
    what: Direction | 'skip',
    { call, input }: CallSpec,
    patience: Patience,
    row?: StepRow,
    hasWayBack = false,
  ): Promise<unknown> {
    for (;;) {
      const sentAt = performance.now();
      let pauseMs: number;
      try {
        return await this.parts.bus.request(call, input as never, {
          deadlineMs: Math.max(1_000, Math.min(callMs, patience.remainingMs)),
          effect: `${this.operation.id}/${step.name}/${what}`,
          fence: this.operation.fence,
          onAgain: () => countAttempt(row),
        });
      } catch (error) {
        const failure = M2Error.from(error);
        if (failure.code === 'fence.stale') throw new LostOperation(failure.detail);
        this.tellAbsence(step.name, failure);
        pauseMs = patience.afterFailure(failure, performance.now() - sentAt);
        this.parts.log.info(
          { operation: this.operation.id, step: step.name, code: failure.code },
          'a step is tried again',
        );
      }
      // What only goes forward is finished whatever a person asks for.
      await this.interrupts.pause(pauseMs, hasWayBack ? 'do' : 'undo');
      countAttempt(row);
    }
  }

  private async wait(step: Step<never>, patience: Patience, hasWayBack: boolean): Promise<unknown> {
    this.waiting += 1;
    if (this.onlyWaits) this.parts.waits();
    try {
      return await this.untilDone(step, patience, hasWayBack);
    } finally {
      this.waiting -= 1;
    }
  }

  private async untilDone(step: Step<never>, patience: Patience, hasWayBack: boolean): Promise<unknown> {
    const { query, look, everyMs, timeout } = step.wait!;
    const { call, input } = query(this.state);
    for (;;) {
      // Taken before the look: what happens during it ends the pause at once.
      const { woken } = this.interrupts;
      const lookedAt = performance.now();
      let pauseMs = everyMs;
      let outcome: WaitOutcome | undefined;
      try {
        outcome = look(await this.parts.bus.request(call, input as never, { deadlineMs: lookMs }));
        patience.answered();
        this.tellAbsence(step.name, undefined);
      } catch (error) {
        // A look that fails for now is no answer; the next one may be.
        const failure = M2Error.from(error);
        this.tellAbsence(step.name, failure);
        if (failure.retry === 'final') throw failure;
        if (failure.retry === 'bug') pauseMs = patience.afterBug(failure);
        if (failure.retry === 'absent') patience.wasAbsent(performance.now() - lookedAt + everyMs);
      }
      if (outcome && 'done' in outcome) return outcome.done;
      if (outcome && 'failed' in outcome) throw M2Error.fromValue(outcome.failed);
      if (outcome) this.progress(step.name, outcome.progress);
      if (patience.remainingMs < 0) throw new M2Error(timeout.code, timeout.detail);
      await this.interrupts.pause(pauseMs, hasWayBack ? 'do' : 'undo', woken);
    }
  }

  /** Whoever looks is told why nothing happens, and may then decide not to wait any longer. */
  private tellAbsence(step: string, failure: M2Error | undefined): void {
    const absent = failure?.retry === 'absent' ? failure.detail : null;
    if (absent === (this.absences.get(step) ?? null)) return;
    void this.parts.store.saveAbsence(this.operation, step, absent).then((written) => {
      if (!written) return;
      this.absences.set(step, absent);
      this.parts.changed(this.operation.id);
    });
  }

  private progress(step: string, progress: { done: number; total: number | null; text: string } | null): void {
    void this.parts.store.saveProgress(this.operation, step, progress).then((changed) => {
      if (changed) this.parts.changed(this.operation.id);
    });
  }

  private deadlineOf({ deadlineMs }: Step<never>): number {
    return typeof deadlineMs === 'number' ? deadlineMs : deadlineMs(this.state.input);
  }
}

const countAttempt = (row: StepRow | undefined): void => {
  if (row) row.attempts += 1;
};
