import { type Kit, KIT } from '@m2/service-kit';
import { Module } from '@nestjs/common';
import type { StorageBackend } from '@m2/storage';
import { FileBackend, RbdBackend, ZfsBackend } from '@m2/storage/drivers';
import { CephClients } from './storage/ceph-clients.js';
import { STORAGE } from './storage/storage.token.js';
import type { ImageConfig } from './config.js';
import { controllers, providers } from './providers.js';

/** Of the storages that one process must look after. */
const alone = (what: string) =>
  `Another image-svc lives, and ${what} can have one only: a second one would write to the same disks. ` +
  'Stop that one first; or keep the disks on Ceph (M2_STORAGE=rbd), which any number of them may use';

/** The one place that knows which backends there are. */
async function openStorage({ config, database, leases }: Kit<ImageConfig>): Promise<StorageBackend> {
  switch (config.storage) {
    case 'file':
      await leases.keep('storage', alone('a storage of files'));
      return FileBackend.open({ directory: config.storageDirectory });
    case 'rbd':
      return RbdBackend.open({
        conf: config.cephConf,
        user: config.cephUser,
        imagePool: config.rbdImagePool,
        diskPool: config.rbdDiskPool,
        addressBook: new CephClients({ database, leases }),
      });
    case 'zfs':
      if (!config.zfsDataset) throw new Error('M2_ZFS_DATASET is not set: name the dataset for all volumes');
      await leases.keep('storage', alone('a ZFS pool'));
      return ZfsBackend.open({ dataset: config.zfsDataset });
  }
}

@Module({ controllers, providers: [...providers, { provide: STORAGE, inject: [KIT], useFactory: openStorage }] })
export class ImageModule {}
