import { type Access, type Layout, mainAccess } from './layout.js';

/** What makes a cluster this one; it does not change as long as its directory is there. */
export interface Identity {
  fsid: string;
  osdUuid: string;
  monPort: number;
  osdBytes: number;
}

/** Only messenger protocol 2: protocol 1 would need another port. */
export const monAddress = ({ monPort }: Identity): string => `[v2:127.0.0.1:${monPort}]`;

/** The configuration of the daemons and of the administrator. */
export const clusterConf = (layout: Layout, identity: Identity): string => `[global]
fsid = ${identity.fsid}
mon_host = ${monAddress(identity)}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr1 = false
ms_bind_ipv6 = false
auth_client_required = cephx
auth_cluster_required = cephx
auth_service_required = cephx
auth_allow_insecure_global_id_reclaim = false
# No socket at all: its path would have to fit into 107 bytes, and nobody asks there.
admin_socket =
run_dir = ${layout.directory}
crash_dir = ${layout.logs}
log_file = ${layout.logs}/$name.log
mon_cluster_log_to_file = false
debug_rocksdb = 0/0
debug_bluestore = 0/0
debug_bluefs = 0/0
debug_bdev = 0/0
debug_mon = 0/0
debug_osd = 0/0
# Ceph gathers changes of its maps for a second, and a snapshot or a pool is such a change.
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
# A disk that fills up on this machine is no reason for the monitor to end.
mon_data_avail_crit = 0
mon_data_avail_warn = 0
# One copy of everything, on the one OSD that there is.
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_autoscale_mode = off
# Many tests share a cluster, each with pools of its own.
mon_max_pg_per_osd = 5000
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
# What clones of format 2 need: no protected snapshots, and across pools and namespaces.
mon_osd_initial_require_min_compat_client = mimic
# The OSD's disk is a sparse file.
bluestore_block_create = true
bluestore_block_size = ${identity.osdBytes}
# Else each open and close of that file waits a quarter of a second for its I/O thread.
bdev_aio_poll_ms = 10
# With one copy nobody ever notices that an OSD that was stopped for as long as its leases last (16 s) goes on: what was asked of it
# meanwhile would wait for ever (PrimaryLogPG::check_laggy; recheck_readable is called for the acknowledgements of other OSDs only).
osd_pool_default_read_lease_ratio = 1000
# The least that the OSD accepts.
osd_memory_target = 939524096
# How long a client that died keeps its images locked; 30 s elsewhere.
osd_client_watch_timeout = 5
# How soon the monitor hears that the OSD is full, or no longer; 5 s elsewhere.
osd_mon_report_interval = 1
[mon]
mon_data = ${layout.mon}
keyring = ${layout.monKeyring}
[osd]
osd_data = ${layout.osd}
keyring = ${layout.osd}/keyring
[mgr]
mgr_data = ${layout.mgr}
keyring = ${layout.mgr}/keyring
[client.admin]
keyring = ${layout.adminKeyring}
`;

/** The configuration of those who use the cluster as `user`, whose key is in `keyring`. */
export const clientConf = (identity: Identity, user: string, keyring: string): string => `[global]
fsid = ${identity.fsid}
mon_host = ${monAddress(identity)}
[client.${user}]
keyring = ${keyring}
`;

/**
 * A cephx key as Ceph encodes it (src/auth/Crypto.cc, CryptoKey::encode): type 1 (AES) in 16 bits, seconds and nanoseconds of its making
 * in 32 bits each, length in 16 bits, the secret.
 */
export function encodeKey(secret: Buffer, madeAt: Date): string {
  const head = Buffer.alloc(12);
  head.writeUInt16LE(1, 0);
  head.writeUInt32LE(Math.floor(madeAt.getTime() / 1000), 2);
  head.writeUInt16LE(secret.length, 10);
  return Buffer.concat([head, secret]).toString('base64');
}

export const keyring = (entity: string, key: string, caps: Record<string, string> = {}): string =>
  [
    `[${entity}]`,
    `\tkey = ${key}`,
    ...Object.entries(caps).map(([service, cap]) => `\tcaps ${service} = "${cap.replaceAll('"', '\\"')}"`),
    '',
  ].join('\n');

/**
 * What image-svc and iscsi-svc may do: everything with RBD in the two pools, their namespaces, and fencing of stale clients (profile rbd);
 * and to keep users of their own, `client.m2.*`. A service that was broken into must not make itself an administrator: the monitor holds
 * these users to RBD in the same pools (MonCap.cc: caps_SERVICE is matched against what the command wants to give).
 */
export const clientCaps = ({ user, imagePool, diskPool }: Access = mainAccess): Record<'mon' | 'osd', string> => {
  const own = `with entity prefix client.${user}.`;
  const grants = `(profile rbd(-read-only)? pool=(${imagePool}|${diskPool})( namespace=[^ ,]+)?(, ?)?)+`;
  const held = `${own} caps_mon="profile rbd" caps_osd regex "${grants}"`;
  return {
    mon: [
      'profile rbd',
      `allow command "auth get-or-create" ${held}`,
      `allow command "auth caps" ${held}`,
      `allow command "auth get" ${own}`,
      `allow command "auth rm" ${own}`,
    ].join(', '),
    osd: `profile rbd pool=${imagePool}, profile rbd pool=${diskPool}`,
  };
};

/** Those of the daemons and the administrator, as Ceph's own deployment gives them. */
export const daemonCaps = {
  'mon.': { mon: 'allow *' },
  'osd.0': { mon: 'allow profile osd', mgr: 'allow profile osd', osd: 'allow *' },
  'mgr.x': { mon: 'allow profile mgr', mds: 'allow *', osd: 'allow *' },
  'client.admin': { mon: 'allow *', osd: 'allow *', mgr: 'allow *' },
} as const;
