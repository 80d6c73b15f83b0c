import { createHash } from 'node:crypto';
import { StorageDaemonError } from './errors.js';
import type { Qmp } from './qmp.js';

/** A block device to show as a raw file. */
export interface DiskExport {
  /** Name of the disk within its daemon. */
  disk: string;
  /** BlockdevOptions of QEMU's qapi/block-core, without a node name. */
  blockdev: { driver: string } & Record<string, unknown>;
  /** An existing file. */
  mountpoint: string;
  /** Runs between the opening of the device and its first use. When it fails, the device is closed again. */
  onOpened?(): Promise<void>;
}

/**
 * A daemon shows at most so many disks. libfuse takes a thread-specific key for each (fuse_session_new), and a process has 1,024 of them
 * (PTHREAD_KEYS_MAX), of which other libraries have some.
 */
export const mostDisks = 1_010;

/** A network storage that is down makes the daemon wait for it: this is the longest wait for its answer. */
const openDeadlineMs = 15_000;

/**
 * Shows a block device as a raw file at `mountpoint` through the daemon's FUSE export (QEMU, qapi/block-export and qapi/block-core). After
 * an error everything is undone. `others`: how many disks the daemon shows, or begins to show. Error `daemon.full`: it can show no more.
 *
 * - One I/O thread per disk. The daemon serves FUSE requests synchronously, so in one thread a disk in a slow flush would
 *   stop every other disk of the daemon, and our commands. It costs a thread; a daemon per disk would cost a fork and 9 MB.
 * - A target's SYNCHRONIZE CACHE is an fsync on the FUSE file, which is `blk_flush` of the device: what was flushed is
 *   durable, unless the device's own options say `cache.no-flush`.
 * - `growable: false`: a target that writes past the end gets an error and no larger disk.
 * - `allow-other: auto`: a target under another user (root, when we are not) may open the disk where fuse.conf permits;
 *   the file is mode 0600 and the kernel checks that (default_permissions).
 */
export async function addDiskExport(
  qmp: Qmp,
  { disk, blockdev, mountpoint, onOpened }: DiskExport,
  others: number,
): Promise<void> {
  if (others >= mostDisks)
    throw new StorageDaemonError(
      'daemon.full',
      `The storage daemon shows ${others} disks, and no process can show more. Detach some first.`,
    );
  const id = nodeName(disk);
  const undo: [command: string, args: object][] = [];
  try {
    await qmp.execute('object-add', { 'qom-type': 'iothread', id });
    undo.unshift(['object-del', { id }]);
    await qmp.execute('blockdev-add', { ...blockdev, 'node-name': id }, openDeadlineMs);
    undo.unshift(['blockdev-del', { 'node-name': id }]);
    await onOpened?.();
    await qmp.execute('block-export-add', {
      type: 'fuse',
      id: exportId(disk),
      'node-name': id,
      mountpoint,
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

/** Removes the disk, whoever has it open, and closes its device. Only then can its volume be removed. */
export async function removeDiskExport(qmp: Qmp, disk: string): Promise<void> {
  await Promise.all([
    qmp.event('BLOCK_EXPORT_DELETED', exportId(disk)),
    qmp.execute('block-export-del', { id: exportId(disk), mode: 'hard' }),
  ]);
  await qmp.execute('blockdev-del', { 'node-name': nodeName(disk) });
  await qmp.execute('object-del', { id: nodeName(disk) });
}

/** The disks that an adopted daemon exports, after removing what an interrupted add or remove left in it. */
export async function exportedDisks(qmp: Qmp): Promise<Set<string>> {
  const [exports, nodes, objects] = (await Promise.all([
    qmp.execute('query-block-exports'),
    qmp.execute('query-named-block-nodes', { flat: true }),
    objectsOf(qmp),
  ])) as [{ id: string; 'shutting-down': boolean }[], { 'node-name': string }[], { name: string }[]];
  if (exports.some((it) => it['shutting-down'])) {
    throw new StorageDaemonError('daemon.unavailable', 'A disk has been in removal since before the restart. Retry.');
  }
  const disks = new Set(exports.map((it) => it.id.slice(prefix.length)));
  const used = new Set([...disks].map((disk) => nodeName(disk)));
  for (const node of nodes) {
    const name = node['node-name'];
    if (name.startsWith(prefix) && !used.has(name)) await qmp.execute('blockdev-del', { 'node-name': name });
  }
  for (const { name } of objects) {
    if (name.startsWith(prefix) && !used.has(name)) await qmp.execute('object-del', { id: name });
  }
  return disks;
}

/** Unlike QEMU, the daemon has no query-iothreads; and the path for objects exists only after the first object. */
async function objectsOf(qmp: Qmp): Promise<unknown> {
  const top = (await qmp.execute('qom-list', { path: '/' })) as { name: string }[];
  return top.some(({ name }) => name === 'objects') ? qmp.execute('qom-list', { path: '/objects' }) : [];
}

const prefix = 'disk-';

function exportId(disk: string): string {
  return prefix + disk;
}

/** The exported node, and its I/O thread. The name of a block node has at most 31 characters, fewer than a disk's may have. */
export function nodeName(disk: string): string {
  return prefix + createHash('sha256').update(disk).digest('hex').slice(0, 26);
}
