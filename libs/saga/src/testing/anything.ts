import type { SagaState } from '../saga.js';

/** Says yes to everything that it is asked for: every property that is read is this value again. */
export const anything: unknown = new Proxy(() => anything, {
  get: (_, key) => (key === 'then' ? undefined : anything),
});

/** A state in which every step can say what it would send. */
export const stateOfAnything = {
  operation: '',
  project: '',
  input: anything,
  reply: () => anything,
  isSkipped: () => false,
} as SagaState<unknown>;
