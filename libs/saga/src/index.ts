export { Claims } from './claims.js';
export type { Commission } from './commission.js';
export { type Part, partOf } from './compose.js';
export { Journal, LostOperation } from './journal.js';
export {
  Saga1796000000000,
  SagaAbsence1797000000000,
  SagaDecisions1797100000000,
  SagaIndexes1798000000000,
} from './migrations.js';
export { SagaRegistry } from './registry.js';
export { newStep, type OperationRow } from './rows.js';
export { Runner, type RunnerOptions } from './runner.js';
export {
  type CallSpec,
  defineSaga,
  type Saga,
  type SagaState,
  send,
  shownProgress,
  type Skip,
  type Step,
  stepsOf,
  type WaitOutcome,
  whatFailed,
} from './saga.js';
export { OperationStore } from './store.js';
