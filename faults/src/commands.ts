import type { Call } from '@m2/contracts';
import type { CallSpec, SagaState, Step } from '@m2/saga';
import { stateOfAnything } from '@m2/saga/testing';

/** The command that a step sends, in one direction. */
export const commandOf = (make: ((state: SagaState<unknown>) => CallSpec) | undefined): Call | undefined =>
  make?.(stateOfAnything).call;

/** Every command of these steps, killed when its handler has acted and is about to commit. */
export const actedCases = (steps: Step<unknown>[], direction: 'do' | 'undo') =>
  steps.flatMap((step) => {
    const call = commandOf(step[direction]);
    return call ? [{ step, service: call.service, subject: call.subject, phase: 'acted', name: step.name }] : [];
  });
