import { type Kit, KIT } from '@m2/service-kit';
import { Module } from '@nestjs/common';
import { FileBackend } from './backends/file/file-backend.js';
import type { StorageBackend } from './backends/storage.port.js';
import { STORAGE } from './backends/storage.token.js';
import type { ImageConfig } from './config.js';
import { providers } from './providers.js';

/** The one place that knows which backends there are. */
function openStorage({ config }: Kit<ImageConfig>): Promise<StorageBackend> {
  switch (config.storage) {
    case 'file':
      return FileBackend.open({ directory: config.storageDirectory });
    default:
      throw new Error(`M2_STORAGE: ${config.storage} is not there yet`);
  }
}

@Module({ providers: [...providers, { provide: STORAGE, inject: [KIT], useFactory: openStorage }] })
export class ImageModule {}
