import type { OperationKind } from '@m2/contracts';
import type { Saga } from '@m2/saga';
import { deprovisionSaga, deprovisionSaga1 } from './deprovision.js';
import { diskCreateSaga } from './disk-create.js';
import { diskDeleteSaga } from './disk-delete.js';
import { diskFlattenSaga, diskFlattenSaga1 } from './disk-flatten.js';
import { diskRestoreSaga } from './disk-restore.js';
import { diskRollbackSaga } from './disk-rollback.js';
import { diskTagSaga } from './disk-tag.js';
import { diskUntagSaga } from './disk-untag.js';
import { diskUpdateSaga } from './disk-update.js';
import { imageDeleteSaga } from './image-delete.js';
import { imageExportSaga } from './image-export.js';
import { imageImportSaga } from './image-import.js';
import { imageUpdateSaga } from './image-update.js';
import { provisionSaga } from './provision.js';

/** A kind without a saga does not compile. */
export const sagas: Record<OperationKind, Saga<never>> = {
  provision: provisionSaga,
  deprovision: deprovisionSaga,
  'disk.create': diskCreateSaga,
  'disk.update': diskUpdateSaga,
  'disk.tag': diskTagSaga,
  'disk.untag': diskUntagSaga,
  'disk.rollback': diskRollbackSaga,
  'disk.flatten': diskFlattenSaga,
  'disk.delete': diskDeleteSaga,
  'disk.restore': diskRestoreSaga,
  'image.import': imageImportSaga,
  'image.update': imageUpdateSaga,
  'image.export': imageExportSaga,
  'image.delete': imageDeleteSaga,
};

/**
 * Sagas of earlier versions. Who changes the steps of a saga raises its version and keeps the old one here for a release, so that
 * operations in flight end under the version that they began with.
 */
export const earlierSagas: Saga<never>[] = [deprovisionSaga1, diskFlattenSaga1];
