import { cephPackages, labPackages } from '@m2/lab';
import { type DebianPackage, rbdPackages, servicePackages, type Storage } from '@m2/supervisor';

/** What a stage needs from Debian: M2, and a lab beside it. */
export const stagePackages: DebianPackage[] = [...servicePackages, ...labPackages];

/** What a storage needs beside M2; ZFS comes with the kernel module of whoever has such a pool. */
export const storagePackages = (storage: Storage): DebianPackage[] => {
  if (storage.kind !== 'ceph') return [];
  return storage.conf ? rbdPackages : [...rbdPackages, ...cephPackages];
};

/** What tests need beside a stage: every storage; as root, they make file systems of all kinds that disks are kept on. */
export const testPackages: DebianPackage[] = [
  ...new Map(
    [
      ...stagePackages,
      ...rbdPackages,
      ...cephPackages,
      { name: 'zfs-fuse', job: 'ZFS without a kernel module', file: '/sbin/zfs-fuse' },
      { name: 'xfsprogs', job: 'a file system with reflinks', file: '/usr/sbin/mkfs.xfs' },
    ].map((entry) => [entry.name, entry]),
  ).values(),
];
