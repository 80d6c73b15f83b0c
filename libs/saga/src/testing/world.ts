import { type Call, type ErrorCode, type ErrorValue, M2Error } from '@m2/contracts';
import { z } from 'zod';
import { Execution, type ExecutionParts } from '../execution.js';
import { LostOperation, type StepRow } from '../journal.js';
import { newStep, type OperationRow } from '../rows.js';
import { type Saga, type Step, stepsOf } from '../saga.js';
import type { Ending } from '../store.js';

/** What happens when a command reaches its service. */
export type Outcome =
  | 'ok'
  /** The service did it and told nobody: it died, or the answer was lost. */
  | 'lost'
  /** The error, with nothing done. */
  | { error: ErrorCode }
  /** The error of a handler that refused the command before it did anything. `again`: the service had restarted, and it was sent once more. */
  | { refused: ErrorCode; again?: boolean }
  /** The error, after a part was done. */
  | { partly: ErrorCode }
  /** Answers when the promise does. */
  | Promise<void>;

type Direction = 'do' | 'undo' | 'skip';

const callOf = (name: string): Call => ({
  kind: 'command',
  service: 'hil',
  subject: `m2.cmd.hil.${name}.x`,
  summary: '',
  request: z.unknown(),
  reply: z.unknown(),
  callers: ['gateway'],
});

export const step = (name: string, after: string[] = [], more: Partial<Step<unknown>> = {}): Step<unknown> => ({
  name,
  after,
  do: () => ({ call: callOf(name), input: {} }),
  undo: () => ({ call: callOf(name), input: {} }),
  deadlineMs: 60_000,
  ...more,
});

/** Services that do as a test says, a database of one operation, and runners that may die at any point. */
export class World {
  /** Everything that reached a service, in order: `do a`, `undo a`, `skip a`, `look a`. */
  readonly sent: string[] = [];
  /** What steps are answered, where it matters. */
  readonly replies = new Map<string, unknown>();
  /** Which steps have happened, as far as the hardware goes. */
  readonly present = new Set<string>();
  readonly ended: Ending[] = [];
  readonly steps: Step<unknown>[];
  rows: StepRow[];
  fence = 1;
  undoing = false;
  error: ErrorValue | null = null;
  cancelRequested = false;
  /** Writes to the journal that fail, from now on. */
  brokenWrites = 0;
  /** Runs before each thing that a runner waits for; a test kills a runner here. */
  beforeAwait: () => void = () => {};

  private readonly script = new Map<string, Outcome[]>();
  private readonly committed = new Set<string>();
  /** Whether a runner was killed that nobody has followed yet. */
  killed = false;
  private life = 0;

  constructor(
    readonly saga: Saga<unknown>,
    readonly input: unknown = {},
  ) {
    this.steps = stepsOf(saga, input);
    this.rows = this.steps.map(newStep);
  }

  static of(steps: Step<unknown>[], more: Partial<Saga<unknown>> = {}): World {
    return new World({ kind: 'provision', version: 1, forwardOnly: false, steps, ...more });
  }

  /** What happens to `do a` or `undo a`, one after the other; after the last, `ok`. */
  when(what: string, ...outcomes: Outcome[]): this {
    this.script.set(what, outcomes);
    return this;
  }

  state(name: string): string {
    return this.rows.find((row) => row.name === name)!.state;
  }

  /** A runner that has just taken the operation. The one before it, if it still lives, has lost it. */
  takeOver(): Execution {
    this.fence += 1;
    this.killed = false;
    const operation = {
      id: 'op',
      project: 'p',
      kind: 'provision',
      version: 1,
      input: this.input,
      about: {},
      fence: this.fence,
      undoing: this.undoing,
      cancelRequested: this.cancelRequested,
      takeovers: 0,
      error: this.error,
      traceparent: null,
      createdBy: 'test',
    } satisfies OperationRow;
    return new Execution(this.parts(this.life), this.saga as Saga<never>, operation, structuredClone(this.rows));
  }

  /** The runner that there is dies: whatever it waits for never comes, and nothing that it does counts. */
  kill(): void {
    this.life += 1;
    this.killed = true;
  }

  private parts(life: number): ExecutionParts {
    /** Who is dead waits for ever. */
    const alive = async <T>(work: () => T | Promise<T>): Promise<T> => {
      // What a dead one's timers still begin is nothing that happens.
      if (life === this.life) this.beforeAwait();
      if (life !== this.life) return new Promise(() => {});
      const result = await work();
      return life === this.life ? result : new Promise(() => {});
    };
    const own = (fence: number) => {
      if (fence !== this.fence) throw new LostOperation('another runner has it');
    };
    return {
      bus: {
        request: (_call: Call, _input: unknown, options: { effect?: string; fence?: number; onAgain?: () => void }) =>
          alive(() => this.serve(_call, options)),
      },
      journal: {
        write: ({ fence }: Pick<OperationRow, 'fence'>, rows: StepRow[]) =>
          alive(() => {
            if (this.brokenWrites > 0) {
              this.brokenWrites -= 1;
              throw new Error('no database');
            }
            own(fence);
            this.rows = this.rows.map((old) => structuredClone(rows.find((row) => row.name === old.name) ?? old));
          }),
      },
      store: {
        turnBack: (operation: OperationRow, error: ErrorValue, ifCancelled: ErrorValue) =>
          alive(() => {
            own(operation.fence);
            this.undoing = true;
            this.error = this.cancelRequested ? ifCancelled : error;
            return { fence: (this.fence += 1), error: this.error };
          }),
        end: (operation: OperationRow, ending: Ending) =>
          alive(() => {
            own(operation.fence);
            this.ended.push(ending);
          }),
        saveProgress: async () => true,
        saveAbsence: async () => true,
      },
      log: { info: () => {}, warn: () => {}, error: () => {} },
      changed: () => {},
      waits: () => {},
      seconds: { record: () => {} },
    } as unknown as ExecutionParts;
  }

  private async serve(
    call: Call,
    { effect, fence, onAgain }: { effect?: string; fence?: number; onAgain?: () => void },
  ): Promise<unknown> {
    const name = effect?.split('/')[1] ?? (call.subject.split('.')[3] as string);
    const what = effect ? `${effect.split('/')[2] as Direction} ${name}` : `look ${name}`;
    this.sent.push(what);
    if (effect && fence! < this.fence) throw new M2Error('fence.stale', 'a newer one was seen');
    if (this.committed.has(what)) return {};
    const outcome = this.script.get(what)?.shift() ?? 'ok';
    if (outcome instanceof Promise) await outcome;
    else if (typeof outcome === 'object' && 'error' in outcome) throw new M2Error(outcome.error, 'as the test says');
    else if (typeof outcome === 'object' && 'refused' in outcome) {
      if (outcome.again) onAgain?.();
      throw M2Error.fromValue({ code: outcome.refused, detail: 'as the test says' }, true);
    }
    if (what.startsWith('do ')) this.present.add(name);
    if (what.startsWith('undo ')) this.present.delete(name);
    if (outcome === 'lost') throw new M2Error('request.deadline', 'as the test says');
    if (typeof outcome === 'object' && 'partly' in outcome) throw new M2Error(outcome.partly, 'as the test says');
    if (effect) this.committed.add(what);
    return this.replies.get(name) ?? { answered: what };
  }
}
