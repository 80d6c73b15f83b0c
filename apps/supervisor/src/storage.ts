import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { SupervisorError } from './errors.js';
import type { Paths } from './state.js';

/** What Ceph, ZFS and their command lines take for a name; it must not be read as an option or as a path. */
const name = z.string().regex(/^[A-Za-z0-9][\w.-]*$/, 'must be letters, digits, dots, dashes and underlines');

/** Where images and disks are kept. */
export const storage = z.discriminatedUnion('kind', [
  /** In the state directory. */
  z.object({ kind: z.literal('file') }),
  z.object({
    kind: z.literal('ceph'),
    /** The cluster's ceph.conf, with the user's keyring named in it; absent: of the cluster in the state directory. */
    conf: z.string().startsWith('/').optional(),
    user: name.default('m2'),
    imagePool: name.default('m2-images'),
    diskPool: name.default('m2-disks'),
  }),
  z.object({
    kind: z.literal('zfs'),
    /** Images and disks become datasets below it. */
    dataset: z.string().regex(/^[A-Za-z0-9][\w.:-]*(\/[\w.:-]+)*$/, 'must be the name of a dataset'),
  }),
]);
export type Storage = z.infer<typeof storage>;

/** What image-svc and iscsi-svc are told. */
export function storageEnvironment(paths: Paths, chosen: Storage): Record<string, string> {
  switch (chosen.kind) {
    case 'file':
      return { M2_STORAGE: 'file' };
    case 'ceph':
      return {
        M2_STORAGE: 'rbd',
        M2_CEPH_CONF: chosen.conf ?? join(paths.ceph, 'ceph.conf'),
        M2_CEPH_USER: chosen.user,
        M2_RBD_IMAGE_POOL: chosen.imagePool,
        M2_RBD_DISK_POOL: chosen.diskPool,
      };
    case 'zfs':
      return { M2_STORAGE: 'zfs', M2_ZFS_DATASET: chosen.dataset };
  }
}

/**
 * Refuses another storage than that of the first start: the database names its volumes, and another one has none of them. How a cluster is
 * reached (the path of its ceph.conf, the user) may change.
 * Throws `supervisor.bad_option`.
 */
export function refuseOtherStorage(paths: Paths, saved: Storage, wanted: Storage): void {
  const [before, now] = [place(saved), place(wanted)];
  if (before === now || !existsSync(join(paths.postgres, 'data'))) return;
  throw new SupervisorError(
    'supervisor.bad_option',
    `The images and disks of ${paths.state} are in ${before}, not in ${now}`,
    'Leave out the options about storage to go on with it, or give another directory with --state to begin anew.',
  );
}

function place(chosen: Storage): string {
  switch (chosen.kind) {
    case 'file':
      return 'files';
    case 'ceph': {
      const { conf, imagePool, diskPool } = chosen;
      return `the pools ${imagePool} and ${diskPool} of ${conf ? 'a Ceph cluster' : 'its own Ceph cluster'}`;
    }
    case 'zfs':
      return `the ZFS dataset ${chosen.dataset}`;
  }
}
