import type { CallSpec, Saga, SagaState, Step } from './saga.js';
import { stepsOf } from './saga.js';

export interface Part<Outer, Inner> {
  /** Goes before the name of each step: `old.` makes `power-off` `old.power-off`. */
  prefix: string;
  /** The part's own project and input. */
  of(input: Outer): { project: string; input: Inner };
  /** Steps of the whole that a step of the part waits for beside its own, by the part's name of the step. */
  after?: Record<string, string[]>;
}

/**
 * The steps of a saga as a part of another saga. A part that only goes forward is finished whatever becomes of the others; the other parts are
 * undone when one of their steps fails. `settle` is not taken over: the whole has its own.
 */
export function partOf<Outer, Inner>(
  saga: Saga<Inner>,
  outer: Outer,
  { prefix, of, after = {} }: Part<Outer, Inner>,
): Step<Outer>[] {
  const { input: inner } = of(outer);
  const within = (state: SagaState<Outer>): SagaState<Inner> => ({
    operation: state.operation,
    ...of(state.input),
    reply: (call, step) => state.reply(call, prefix + step),
    isSkipped: (step) => state.isSkipped(prefix + step),
  });
  const sent = (make: ((state: SagaState<Inner>) => CallSpec) | undefined) =>
    make && ((state: SagaState<Outer>) => make(within(state)));
  return stepsOf(saga, inner).map(({ when, do: doIt, undo, wait, skip, ...step }) => {
    const instead = skip?.instead;
    return {
      name: prefix + step.name,
      after: [...step.after.map((name) => prefix + name), ...(after[step.name] ?? [])],
      deadlineMs: typeof step.deadlineMs === 'number' ? step.deadlineMs : step.deadlineMs(inner),
      forwardOnly: step.forwardOnly ?? saga.forwardOnly,
      ...(when && { when: (input: Outer) => when(of(input).input) }),
      ...(doIt && { do: sent(doIt)! }),
      ...(undo && { undo: sent(undo)! }),
      ...(wait && { wait: { ...wait, query: (state: SagaState<Outer>) => wait.query(within(state)) } }),
      ...(skip && {
        skip: {
          leaves: skip.leaves,
          unsafe: skip.unsafe,
          ...(skip.guard !== undefined && { guard: skip.guard }),
          ...(instead && { instead: (state: SagaState<Outer>, why) => instead(within(state), why) }),
        },
      }),
    } satisfies Step<Outer>;
  });
}
