import { createHash } from 'node:crypto';
import { StorageError } from '../storage.port.js';
import type { Qmp } from './qmp.js';

/** An overlay that is to be seen as a raw disk. */
export interface DiskExport {
  volume: string;
  overlay: string;
  golden: string;
  mountpoint: string;
}

/**
 * Shows an overlay as a raw file at `mountpoint` through the daemon's FUSE export (QEMU, qapi/block-export and
 * qapi/block-core). What a failure leaves behind is taken back.
 *
 * - An I/O thread per disk. The daemon serves FUSE requests synchronously, so in one thread a disk in a slow flush would
 *   stop every other tenant's disk, and our commands. It costs a thread; a daemon per disk would cost a fork and 9 MB.
 * - Caching: writes go to the host's page cache and are durable after a flush: a target's SYNCHRONIZE CACHE is an fsync
 *   on the FUSE file, that is `blk_flush`, that is fdatasync of the overlay. So not `cache.no-flush`; not `cache.direct`
 *   either, as the page cache holds the golden volume's blocks once for all its clones.
 * - Every format is said; the name of the backing file in the overlay's header is not used.
 * - `growable: false`: a target that writes past the end gets an error and no larger disk.
 * - `allow-other: auto`: a target under another user (root, when we are not) may open the disk where fuse.conf permits;
 *   the file is mode 0600 and the kernel checks that (default_permissions).
 */
export async function addExport(qmp: Qmp, disk: DiskExport): Promise<void> {
  const id = nodeName(disk.volume);
  const undo: [command: string, args: object][] = [];
  try {
    await qmp.execute('object-add', { 'qom-type': 'iothread', id });
    undo.unshift(['object-del', { id }]);
    await qmp.execute('blockdev-add', {
      driver: 'qcow2',
      'node-name': id,
      discard: 'unmap',
      file: { driver: 'file', filename: disk.overlay, discard: 'unmap' },
      backing: {
        driver: 'raw',
        'read-only': true,
        file: { driver: 'file', filename: disk.golden, 'read-only': true },
      },
    });
    undo.unshift(['blockdev-del', { 'node-name': id }]);
    await qmp.execute('block-export-add', {
      type: 'fuse',
      id: exportId(disk.volume),
      'node-name': id,
      mountpoint: disk.mountpoint,
      writable: true,
      growable: false,
      'allow-other': 'auto',
      iothread: id,
    });
  } catch (error) {
    for (const [command, args] of undo) await qmp.execute(command, args).catch(() => {});
    throw error;
  }
}

/** Takes the disk away, whoever has it open, and closes its files: only then can they be removed. */
export async function removeExport(qmp: Qmp, volume: string): Promise<void> {
  await Promise.all([
    qmp.event('BLOCK_EXPORT_DELETED', exportId(volume)),
    qmp.execute('block-export-del', { id: exportId(volume), mode: 'hard' }),
  ]);
  await qmp.execute('blockdev-del', { 'node-name': nodeName(volume) });
  await qmp.execute('object-del', { id: nodeName(volume) });
}

/** The volumes that an adopted daemon exports, after whatever an interrupted attach or detach left in it is removed. */
export async function exportedVolumes(qmp: Qmp): Promise<Set<string>> {
  const [exports, nodes, objects] = (await Promise.all([
    qmp.execute('query-block-exports'),
    qmp.execute('query-named-block-nodes', { flat: true }),
    qmp.execute('qom-list', { path: '/objects' }), // the daemon, unlike QEMU, has no query-iothreads
  ])) as [{ id: string; 'shutting-down': boolean }[], { 'node-name': string }[], { name: string }[]];
  if (exports.some((it) => it['shutting-down'])) {
    throw new StorageError('storage.unavailable', 'A disk is being detached since before the restart. Retry.');
  }
  const volumes = new Set(exports.map((it) => it.id.slice(exportPrefix.length)));
  const used = new Set([...volumes].map((volume) => nodeName(volume)));
  for (const node of nodes) {
    const name = node['node-name'];
    if (name.startsWith(nodePrefix) && !used.has(name)) await qmp.execute('blockdev-del', { 'node-name': name });
  }
  for (const { name } of objects) {
    if (name.startsWith(nodePrefix) && !used.has(name)) await qmp.execute('object-del', { id: name });
  }
  return volumes;
}

const exportPrefix = 'disk-';
const nodePrefix = 'disk-';

function exportId(volume: string): string {
  return exportPrefix + volume;
}

/** A block node's name has at most 31 characters, fewer than a volume's. */
function nodeName(volume: string): string {
  return nodePrefix + createHash('sha256').update(volume).digest('hex').slice(0, 26);
}
