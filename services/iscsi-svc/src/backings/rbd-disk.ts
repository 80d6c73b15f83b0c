import type { fields } from '@m2/contracts';
import { createHash } from 'node:crypto';
import type { z } from 'zod';

/** What a storage hands over. */
export type BackingStore = z.infer<typeof fields.backingStore>;
export type RbdBacking = Extract<BackingStore, { type: 'rbd' }>;

/** What a disk is called where there are only files: its real name has three parts, of any length. */
export function diskName({ pool, namespace, image }: RbdBacking): string {
  const name = JSON.stringify([pool, namespace, image]);
  return createHash('sha256').update(name).digest('hex').slice(0, 32);
}

/** How people write it. */
export const spelled = ({ pool, namespace, image }: RbdBacking): string =>
  [pool, namespace, image].filter(Boolean).join('/');

/**
 * How the storage daemon opens an image (BlockdevOptionsRbd in QEMU's qapi/block-core); `keySecret` is the id of the object
 * that holds the user's key.
 *
 * - `cache.direct`: no cache of librbd's (QEMU's block/rbd.c turns rbd_cache off). What was acknowledged to the node is in
 *   the cluster then, flushed or not: a node's kernel that sees its writes acknowledged never writes them again, so with a
 *   cache the death of the daemon would lose data under a running node. And the daemon stays small.
 * - `discard`: what the node trims is given back to the pool.
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
 * The site's ceph.conf with what the daemon needs to differ, in the section that comes before all others.
 *
 * - No time-outs for I/O: while an OSD is away the node waits, as for a slow disk; an error would end its file system.
 * - Opening an image stops the daemon's monitor, and so the commands for all its disks: that must end soon when the cluster
 *   is away. Ceph's default is five minutes.
 */
export const daemonConf = (siteConf: string, user: string): string => `${siteConf}
[client.${user}]
rados_osd_op_timeout = 0
rados_mon_op_timeout = 0
client_mount_timeout = 10
`;
