export { type ErrorCode, errorCatalogue, isErrorCode } from './catalogue.js';
export type { RetryClass } from './kind.js';
export { type ErrorValue, M2Error, type Problem, shown, toProblem } from './m2-error.js';
