import { type Kit, KIT } from '@m2/service-kit';
import { Module } from '@nestjs/common';
import { FileBackend } from './backends/file/file-backend.js';
import { RbdBackend } from './backends/rbd/rbd-backend.js';
import type { StorageBackend } from './backends/storage.port.js';
import { STORAGE } from './backends/storage.token.js';
import { ZfsBackend } from './backends/zfs/zfs-backend.js';
import type { ImageConfig } from './config.js';
import { providers } from './providers.js';

/** The one place that knows which backends there are. */
function openStorage({ config }: Kit<ImageConfig>): Promise<StorageBackend> {
  switch (config.storage) {
    case 'file':
      return FileBackend.open({ directory: config.storageDirectory });
    case 'rbd':
      return RbdBackend.open({
        conf: config.cephConf,
        user: config.cephUser,
        imagePool: config.rbdImagePool,
        diskPool: config.rbdDiskPool,
      });
    case 'zfs':
      if (!config.zfsDataset) throw new Error('M2_ZFS_DATASET is not set: name the dataset for all volumes');
      return ZfsBackend.open({ dataset: config.zfsDataset });
  }
}

@Module({ providers: [...providers, { provide: STORAGE, inject: [KIT], useFactory: openStorage }] })
export class ImageModule {}
