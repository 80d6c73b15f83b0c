import type { fields } from '@m2/contracts';
import { createHash } from 'node:crypto';
import type { z } from 'zod';

/** A disk as the storage names it. */
export type BackingStore = z.infer<typeof fields.backingStore>;
export type RbdBacking = Extract<BackingStore, { type: 'rbd' }>;

/** A name for file names: the real one has three parts of any length. */
export function diskName({ pool, namespace, image }: RbdBacking): string {
  const name = JSON.stringify([pool, namespace, image]);
  return createHash('sha256').update(name).digest('hex').slice(0, 32);
}

/** The form that people write. */
export const formatBacking = ({ pool, namespace, image }: RbdBacking): string =>
  [pool, namespace, image].filter(Boolean).join('/');

/**
 * How the storage daemon opens an image (BlockdevOptionsRbd in QEMU's qapi/block-core); `keySecret` is the id of the object that holds the
 * user's key.
 *
 * - `cache.direct`: without librbd's cache (QEMU's block/rbd.c turns rbd_cache off). Then acknowledged writes are in the
 *   cluster, flushed or not. A node's kernel never repeats acknowledged writes, so with a cache the death of the daemon would
 *   lose data under a running node. And the daemon stays small.
 * - `discard`: what the node trims is returned to the pool.
 */
export function rbdBlockdev({ pool, namespace, image, user }: RbdBacking, conf: string, keySecret: string) {
  return {
    driver: 'rbd',
    pool,
    ...(namespace && { namespace }),
    image,
    user,
    conf,
    'key-secret': keySecret,
    cache: { direct: true },
    discard: 'unmap',
  };
}

/**
 * The site's ceph.conf with different settings for the daemon, in the section that comes before all others.
 *
 * - No time-outs for I/O: while an OSD is down the node waits, as for a slow disk; an error would end its file system.
 * - Opening an image blocks the daemon's monitor, and so the commands for all of its disks: that must end soon when the
 *   cluster is down. Ceph's default is five minutes.
 */
export const daemonConf = (siteConf: string, user: string): string => `${siteConf}
[client.${user}]
rados_osd_op_timeout = 0
rados_mon_op_timeout = 0
client_mount_timeout = 10
`;
