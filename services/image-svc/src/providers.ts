import { AttachmentHandlers } from './disks/attachment-handlers.js';
import { AttachmentKeeper } from './disks/attachment-keeper.js';
import { DiskHandlers } from './disks/disk-handlers.js';
import { DiskRemover } from './disks/disk-remover.js';
import { DiskStore } from './disks/disk-store.js';
import { FlattenHandler } from './disks/flatten-handler.js';
import { Flattener } from './disks/flattener.js';
import { Growth } from './disks/growth.js';
import { Housekeeping } from './disks/housekeeping.js';
import { ProjectEnd } from './disks/project-end.js';
import { TagHandlers } from './disks/tag-handlers.js';
import { TagRemover } from './disks/tag-remover.js';
import { TagStore } from './disks/tag-store.js';
import { Exporter } from './images/exporter.js';
import { ImageExportHandlers } from './images/image-export-handlers.js';
import { ImageHandlers } from './images/image-handlers.js';
import { ImageRemover } from './images/image-remover.js';
import { ImageStore } from './images/image-store.js';
import { Importer } from './images/importer.js';
import { LineageHandler } from './images/lineage.js';
import { Staging } from './images/staging.js';
import { QuotaHandlers } from './quotas/quota-handlers.js';
import { StorageCheck } from './storage/storage-check.js';
import { StorageHandlers } from './storage/storage-handlers.js';
import { TransferDoor } from './transfers/transfer-door.js';
import { TransferHandlers } from './transfers/transfer-handlers.js';
import { Reclaimer } from './volumes/reclaimer.js';

/** What answers messages. */
export const controllers = [
  ImageHandlers,
  LineageHandler,
  ImageExportHandlers,
  DiskHandlers,
  FlattenHandler,
  TagHandlers,
  AttachmentHandlers,
  ProjectEnd,
  QuotaHandlers,
  StorageHandlers,
  TransferHandlers,
];

/** All of the service except its controllers and its storage, which tests replace. */
export const providers = [
  TransferDoor,
  Staging,
  ImageStore,
  ImageRemover,
  Importer,
  Exporter,
  DiskStore,
  DiskRemover,
  TagStore,
  TagRemover,
  Flattener,
  Growth,
  AttachmentKeeper,
  Housekeeping,
  Reclaimer,
  StorageCheck,
];
