import { join } from 'node:path';

export type DaemonName = 'mon' | 'osd' | 'mgr';

/** What is in the directory of a cluster. */
export const layoutOf = (directory: string) => ({
  directory,
  /** What the cluster was made with. Written last: a directory without it holds no finished cluster. */
  identity: join(directory, 'cluster.json'),
  lock: join(directory, 'lock'),
  clusterConf: join(directory, 'cluster.conf'),
  clientConf: join(directory, 'ceph.conf'),
  adminKeyring: join(directory, 'client.admin.keyring'),
  clientKeyring: join(directory, 'client.m2.keyring'),
  monKeyring: join(directory, 'mon.keyring'),
  monmap: join(directory, 'monmap'),
  logs: join(directory, 'log'),
  mon: join(directory, 'mon'),
  osd: join(directory, 'osd'),
  mgr: join(directory, 'mgr'),
});
export type Layout = ReturnType<typeof layoutOf>;

/** There is one daemon of each kind, so any name does; an OSD's has to be a number. */
export const daemonIds: Record<DaemonName, string> = { mon: 'a', osd: '0', mgr: 'x' };

/** Two pools, and the user who may use them: `m2` for `client.m2`. */
export interface Access {
  imagePool: string;
  diskPool: string;
  user: string;
}

export const mainAccess: Access = { imagePool: 'm2-images', diskPool: 'm2-disks', user: 'm2' };
export const poolsOf = ({ imagePool, diskPool }: Access): string[] => [imagePool, diskPool];
