import type { Call } from '@m2/contracts';
import type { CallSpec, SagaState, Step } from '@m2/saga';

/** A command has come; it is done and about to go on record; it is on record and not answered yet. */
export const phases = ['begin', 'acted', 'end'] as const;

/** A state in which every step can say what it would send: all that it asks for is some text. */
const anything: unknown = new Proxy(() => anything, { get: (_, key) => (key === 'then' ? undefined : anything) });
const state = { operation: '', project: '', input: anything, reply: () => anything } as SagaState<unknown>;

/** The command that a step sends, in one direction. */
const commandOf = (make: ((state: SagaState<unknown>) => CallSpec) | undefined): Call | undefined => make?.(state).call;

/** Every command of these steps, at every phase. */
export const casesOf = (steps: Step<unknown>[], direction: 'do' | 'undo') =>
  steps.flatMap((step) => {
    const call = commandOf(step[direction]);
    if (!call) return [];
    return phases.map((phase) => ({ step, service: call.service, subject: call.subject, phase, name: step.name }));
  });
