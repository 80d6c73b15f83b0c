import { type Kit, KIT } from '@m2/service-kit';
import { Module } from '@nestjs/common';
import { FileBackend } from './backends/file/file-backend.js';
import { STORAGE } from './backends/storage.token.js';
import type { ImageConfig } from './config.js';
import { AttachmentKeeper } from './disks/attachment-keeper.js';
import { DiskHandlers } from './disks/disk-handlers.js';
import { DiskStore } from './disks/disk-store.js';
import { ImageHandlers } from './images/image-handlers.js';
import { ImageStore } from './images/image-store.js';
import { Importer } from './images/importer.js';

/** The one place that knows which backend there is. */
@Module({
  providers: [
    ImageStore,
    ImageHandlers,
    Importer,
    DiskStore,
    DiskHandlers,
    AttachmentKeeper,
    {
      provide: STORAGE,
      inject: [KIT],
      useFactory: ({ config }: Kit<ImageConfig>) => FileBackend.open({ directory: config.storageDirectory }),
    },
  ],
})
export class ImageModule {}
