export type { Commission, Idempotency } from './commission.js';
export { Journal, LostOperation } from './journal.js';
export type { SagaRegistry } from './registry.js';
export { Runner, type RunnerOptions } from './runner.js';
export {
  type CallSpec,
  defineSaga,
  type Saga,
  type SagaState,
  send,
  shownProgress,
  type Step,
  type WaitOutcome,
  whatFailed,
} from './saga.js';
export { newStep, type OperationRow, OperationStore } from './store.js';
