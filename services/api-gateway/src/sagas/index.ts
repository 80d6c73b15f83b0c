import type { OperationKind } from '@m2/contracts';
import type { Saga } from '../operations/saga.js';
import { deprovisionSaga } from './deprovision.js';
import { diskCreateSaga } from './disk-create.js';
import { diskDeleteSaga } from './disk-delete.js';
import { imageDeleteSaga } from './image-delete.js';
import { imageImportSaga } from './image-import.js';
import { provisionSaga } from './provision.js';

/** A kind without a saga does not compile. */
export const sagas: Record<OperationKind, Saga<never>> = {
  provision: provisionSaga,
  deprovision: deprovisionSaga,
  'disk.create': diskCreateSaga,
  'disk.delete': diskDeleteSaga,
  'image.import': imageImportSaga,
  'image.delete': imageDeleteSaga,
};
