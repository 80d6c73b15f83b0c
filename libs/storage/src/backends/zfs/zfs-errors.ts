import { StorageError } from '../../storage.port.js';
import type { StorageErrorCode } from '../../storage.port.js';

/**
 * What the messages of `zfs` mean; it has no other way to say what went wrong (its exit status is 1, or 2 for an unknown usage). The words
 * have been the same in Solaris, in zfs-fuse and in OpenZFS.
 */
const meanings: [words: RegExp, code: StorageErrorCode, advice: string][] = [
  [
    /out of space|no space left|quota exceeded|exceeds? .*(quota|available)/i,
    'storage.full',
    'Free space or enlarge the pool, then retry.',
  ],
  [
    /dependent clones|snapshot is cloned|is busy|has children|umount failed|unmount failed/,
    'storage.in_use',
    'Remove what was cloned from it, detach it and close what reads it first.',
  ],
  [/does not exist|no such pool|could not find any snapshots/, 'storage.not_found', 'Check the name.'],
  [/already exists/, 'storage.exists_differently', 'Use a new name.'],
  [/it timed out/, 'storage.timeout', 'Check the pool with "zpool status".'],
  [/ENOENT/, 'storage.misconfigured', 'Install the ZFS utilities.'],
  [/permission denied/i, 'storage.misconfigured', 'Run image-svc as root: on Linux only root mounts datasets.'],
];

/** The port's error for a `zfs` command that failed with this message on standard error. */
export function zfsError(args: readonly string[], stderr: string): StorageError {
  const [, code, advice] = meanings.find(([words]) => words.test(stderr)) ?? [
    undefined,
    'storage.unavailable' as const,
    'Check the pool with "zpool status", then retry.',
  ];
  const reason = stderr.trim().replaceAll(/\s*\n\s*/g, '; ') || 'it gave no reason';
  return new StorageError(code, `"zfs ${args.join(' ')}" failed: ${reason}. ${advice}`);
}
