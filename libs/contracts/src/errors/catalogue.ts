import { accessErrors } from './access.js';
import { bootErrors } from './boot.js';
import { disksErrors } from './disks.js';
import { exportsErrors } from './exports.js';
import { imagesErrors } from './images.js';
import { nodesErrors } from './nodes.js';
import { operationsErrors } from './operations.js';
import { provisionsErrors } from './provisions.js';
import { requestErrors } from './request.js';
import { storageErrors } from './storage.js';

/**
 * The catalogue of errors. An error is a value with a stable code: programs match on the code, people read `title` (what is
 * wrong, in general), `detail` (what is wrong, here) and `remedy` (what to do next).
 */
export const errorCatalogue = {
  ...requestErrors,
  ...accessErrors,
  ...imagesErrors,
  ...disksErrors,
  ...storageErrors,
  ...exportsErrors,
  ...nodesErrors,
  ...bootErrors,
  ...provisionsErrors,
  ...operationsErrors,
} as const;

export type ErrorCode = keyof typeof errorCatalogue;

export const isErrorCode = (code: unknown): code is ErrorCode =>
  typeof code === 'string' && Object.hasOwn(errorCatalogue, code);
