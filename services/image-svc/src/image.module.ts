import { type Kit, KIT } from '@m2/service-kit';
import { Module } from '@nestjs/common';
import type { StorageBackend } from '@m2/storage';
import { FileBackend, RbdBackend, ZfsBackend } from '@m2/storage/drivers';
import { CephClients } from './storage/ceph-clients.js';
import { STORAGE } from './storage/storage.token.js';
import type { ImageConfig } from './config.js';
import { controllers, providers } from './providers.js';

/** The one place that knows which backends there are. */
function openStorage({ config, database }: Kit<ImageConfig>): Promise<StorageBackend> {
  switch (config.storage) {
    case 'file':
      return FileBackend.open({ directory: config.storageDirectory });
    case 'rbd':
      return RbdBackend.open({
        conf: config.cephConf,
        user: config.cephUser,
        imagePool: config.rbdImagePool,
        diskPool: config.rbdDiskPool,
        addressBook: new CephClients(database),
      });
    case 'zfs':
      if (!config.zfsDataset) throw new Error('M2_ZFS_DATASET is not set: name the dataset for all volumes');
      return ZfsBackend.open({ dataset: config.zfsDataset });
  }
}

@Module({ controllers, providers: [...providers, { provide: STORAGE, inject: [KIT], useFactory: openStorage }] })
export class ImageModule {}
