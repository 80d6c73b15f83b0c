import type { UpOptions } from '@m2/supervisor';
import { type Command, Option } from 'commander';
import { resolve } from 'node:path';
import { usageError } from '../errors.js';

export interface StorageFlags {
  storage?: 'file' | 'ceph' | 'zfs';
  cephConf?: string;
  cephUser?: string;
  cephImagePool?: string;
  cephDiskPool?: string;
  zfsDataset?: string;
}

/** The options of `m2 up` about where images and disks are kept. */
export function addStorageOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        '--storage <kind>',
        'where disks are: files, Ceph (one on this machine, unless --ceph-conf), ZFS (file)',
      ).choices(['file', 'ceph', 'zfs']),
    )
    .option('--ceph-conf <file>', "a Ceph cluster's ceph.conf, with the user's keyring named in it")
    .option('--ceph-user <name>', 'the user there, without "client." (m2)')
    .option('--ceph-image-pool <pool>', 'the pool for images there (m2-images)')
    .option('--ceph-disk-pool <pool>', 'the pool for disks there (m2-disks)')
    .option('--zfs-dataset <dataset>', 'the dataset that images and disks are kept below, for --storage zfs');
}

/**
 * Splits these options from the others. `storage` is undefined when none was given; then the storage stays as it is.
 * Throws a usage error for what makes no sense.
 */
export function takeStorage<Flags extends StorageFlags>(flags: Flags, cwd: string) {
  const { storage, cephConf, cephUser, cephImagePool, cephDiskPool, zfsDataset, ...rest } = flags;
  const kind = storage ?? (cephConf ? 'ceph' : zfsDataset ? 'zfs' : undefined);
  if (kind !== 'ceph' && cephConf) throw usageError('--ceph-conf is for --storage ceph', 'Leave one of them out.');
  if (kind !== 'zfs' && zfsDataset) throw usageError('--zfs-dataset is for --storage zfs', 'Leave one of them out.');
  if (!cephConf && (cephUser ?? cephImagePool ?? cephDiskPool) !== undefined)
    throw usageError('The user and the pools are those of the cluster that --ceph-conf names', 'Give --ceph-conf too.');
  if (kind === 'zfs' && !zfsDataset)
    throw usageError('--storage zfs needs a dataset', 'Give --zfs-dataset, as in tank/m2.');
  const where = {
    file: {},
    ceph: {
      conf: cephConf && resolve(cwd, cephConf),
      user: cephUser,
      imagePool: cephImagePool,
      diskPool: cephDiskPool,
    },
    zfs: { dataset: zfsDataset },
  };
  return { storage: kind && ({ kind, ...where[kind] } as NonNullable<UpOptions['storage']>), rest };
}
