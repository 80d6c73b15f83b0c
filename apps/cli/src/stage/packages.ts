import { labPackages } from '@m2/lab';
import { type DebianPackage, servicePackages } from '@m2/supervisor';

/** What a stage needs from Debian: M2, and a lab beside it. */
export const stagePackages: DebianPackage[] = [...servicePackages, ...labPackages];

/** What tests need beside a stage: as root, they make file systems of both kinds that storage is kept on. */
export const testPackages: DebianPackage[] = [
  ...stagePackages,
  { name: 'xfsprogs', job: 'a file system with reflinks', file: '/usr/sbin/mkfs.xfs' },
];
