import {
  type Call,
  type ErrorCode,
  type ErrorValue,
  type fields,
  type InputOf,
  M2Error,
  type OperationKind,
  type OperationState,
  type progress as workProgress,
  type ReplyOf,
} from '@m2/contracts';
import type { Sql } from '@m2/service-kit';
import type { z } from 'zod';

/**
 * A saga is a list of steps. `do` and `undo` do nothing by themselves: they say which command to send, made from the operation's
 * input and the replies of the steps before. So the same saga can be run, resumed, undone and listed, and a step can be sent twice.
 */
export interface SagaState<Input> {
  operation: string;
  project: string;
  input: Input;
  /** The reply of a step that is done. */
  reply<C extends Call>(call: C, step: string): ReplyOf<C>;
  /** Whether a person left the step out. */
  isSkipped(step: string): boolean;
}

export interface CallSpec {
  call: Call;
  input: unknown;
}

/** Pairs a command with its input, checked by the compiler. */
export const send = <C extends Call>(call: C, input: InputOf<C>): CallSpec => ({ call, input });

/** What a look at a long-running thing says: it is done (with what to remember), it failed, or how far it is. */
export type WaitOutcome = { done: unknown } | { failed: ErrorValue } | { progress: Progress | null };

type Progress = { done: number; total: number | null; text: string };

/** What a service says of a long piece of work that failed, as the step's failure. */
export const whatFailed = (error: z.infer<typeof fields.errorValue> | null): WaitOutcome => {
  const { code, detail, about } = M2Error.fromValue((error ?? { code: 'internal', detail: 'It failed' }) as ErrorValue);
  return { failed: { code, detail, ...(about && { about }) } };
};

/** How far a service says that it is, as an operation shows it. */
export const shownProgress = (progress: z.infer<typeof workProgress> | null): Progress | null =>
  progress && { done: progress.done, total: progress.total, text: progress.phase };

export interface Wait<Input> {
  query(state: SagaState<Input>): CallSpec;
  look(reply: unknown): WaitOutcome;
  /** Polling is the fallback: an event wakes the step earlier. */
  everyMs: number;
  /** What a wait that is over its deadline ends with. */
  timeout: { code: ErrorCode; detail: string };
}

/** What happens when a person leaves a stuck step out: said to that person before, and done after. */
export interface SkipRule<Input> {
  /** What stays behind. */
  leaves: string;
  /** What may do harm from then on. */
  unsafe: string | null;
  /** What keeps it from doing so. It is done because the operation goes on: nothing of it is so when the operation is abandoned. */
  guard?: string;
  /** Sent in place of the step. */
  instead?: (state: SagaState<Input>, skip: Skip) => CallSpec;
}

/** Who left a step out, and why. */
export interface Skip {
  by: string;
  reason: string;
}

export interface Step<Input> {
  name: string;
  /** Steps that must be done before; steps that do not wait for one another run at the same time. */
  after: string[];
  /** Absent: always. A step that is not wanted counts as done. */
  when?: (input: Input) => boolean;
  do?: (state: SagaState<Input>) => CallSpec;
  wait?: Wait<Input>;
  /** Absent: there is nothing to undo. */
  undo?: (state: SagaState<Input>) => CallSpec;
  /** From the first attempt to the last; time in which a service is not there at all does not count. */
  deadlineMs: number | ((input: Input) => number);
  /** It is done whatever becomes of the other steps, and never undone. Absent: as the saga says. */
  forwardOnly?: boolean;
  /** How a person may leave it out when it is stuck. Absent: it cannot be left out. */
  skip?: SkipRule<Input>;
}

export interface Saga<Input = unknown> {
  kind: OperationKind;
  /**
   * Grows when the steps change: their names, their order, or what a reply has to hold. An operation ends under the version that it began
   * with, and only a runner that has this version takes it.
   */
  version: number;
  /** The steps of an operation; a function where their number depends on the input. It must answer the same for the same input. */
  steps: Step<Input>[] | ((input: Input) => Step<Input>[]);
  /** A saga that gives things back has no way back: when it is stuck it waits for a person. */
  forwardOnly: boolean;
  /** Runs in the transaction that ends the operation. */
  settle?: (sql: Sql, state: SagaState<Input>, outcome: OperationState) => Promise<void>;
}

/** The steps of one operation. Throws when they make no order. */
export const stepsOf = <Input>({ kind, steps }: Saga<Input>, input: Input): Step<Input>[] =>
  typeof steps === 'function' ? checked(kind, steps(input)) : steps;

/** Whether a step is done whatever becomes of the others, and never undone. */
export const isForwardOnly = (saga: Saga<never>, step: Step<never>): boolean => step.forwardOnly ?? saga.forwardOnly;

/** Whether a person may stop an operation of this saga: only what can be undone is stopped halfway. */
export const isCancellable = ({ forwardOnly, steps }: Saga<never>): boolean =>
  !forwardOnly && (typeof steps === 'function' || steps.some(({ undo }) => undo));

/** Checks what the compiler cannot: names that exist once, and an order without a circle. Throws at start-up. */
export function defineSaga<Input>(saga: Saga<Input>): Saga<Input> {
  if (typeof saga.steps !== 'function') checked(saga.kind, saga.steps);
  return saga;
}

function checked<Input>(kind: OperationKind, steps: Step<Input>[]): Step<Input>[] {
  const seen = new Set<string>();
  for (const step of steps) {
    if (seen.has(step.name)) throw new Error(`Saga ${kind} has two steps named ${step.name}`);
    for (const name of step.after)
      if (!seen.has(name))
        throw new Error(`Step ${step.name} of saga ${kind} waits for ${name}, which does not come before it`);
    if (!step.do && !step.wait) throw new Error(`Step ${step.name} of saga ${kind} does nothing`);
    seen.add(step.name);
  }
  return steps;
}
