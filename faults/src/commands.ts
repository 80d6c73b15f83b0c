import type { Call } from '@m2/contracts';
import type { CallSpec, SagaState, Step } from '@m2/saga';

/** A state in which every step can say what it would send: every property that it reads is this value again. */
const anything: unknown = new Proxy(() => anything, { get: (_, key) => (key === 'then' ? undefined : anything) });
const state = {
  operation: '',
  project: '',
  input: anything,
  reply: () => anything,
  isSkipped: () => false,
} as SagaState<unknown>;

/** The command that a step sends, in one direction. */
export const commandOf = (make: ((state: SagaState<unknown>) => CallSpec) | undefined): Call | undefined =>
  make?.(state).call;

/** Every command of these steps, killed when its handler has acted and is about to commit. */
export const actedCases = (steps: Step<unknown>[], direction: 'do' | 'undo') =>
  steps.flatMap((step) => {
    const call = commandOf(step[direction]);
    return call ? [{ step, service: call.service, subject: call.subject, phase: 'acted', name: step.name }] : [];
  });
