import type { OperationKind } from '@m2/contracts';
import type { Saga } from './saga.js';

/** The sagas that a runner knows: one for each kind. */
export type SagaRegistry = Record<OperationKind, Saga<never>>;
