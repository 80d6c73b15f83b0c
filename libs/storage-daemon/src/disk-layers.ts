import { nodeName } from './disk-exports.js';
import type { Qmp } from './qmp.js';

/** An overlay that takes a disk's writes from now on. */
export interface DiskLayer {
  /** The disk's name within its daemon: see DiskExport. Its device is a `raw` node on the node that takes its writes. */
  disk: string;
  /** The node that has taken its writes so far, which was opened as `writableOverlay`, and the node below that. */
  below: string;
  belowThat: string;
  node: string;
  /** An empty qcow2 file that names no backing file. It must keep its name, because QEMU may open it again. */
  file: string;
}

/** Options for a qcow2 file that is written to (QEMU, qapi/block-core), without what is below it. */
export function writableOverlay(node: string, file: string): { driver: 'qcow2' } & Record<string, unknown> {
  return {
    driver: 'qcow2',
    'node-name': node,
    discard: 'unmap',
    file: { driver: 'file', 'node-name': fileNode(node), filename: file, discard: 'unmap' },
  };
}

/**
 * Adds an overlay to an exported disk while it is used: earlier writes are flushed and below it, later writes are in it. After an error
 * everything is undone.
 *
 * As three changes in one blockdev-reopen, and not with blockdev-snapshot (all of it seen with QEMU 7.2):
 * - The overlay is moved to the disk's I/O thread first. Otherwise the disk is in the main thread for a moment, and a request
 *   of that moment ends the daemon (an assertion in bdrv_poll_co).
 * - blockdev-snapshot stops the disk's requests a second time to make the node below read-only, and a request that waited
 *   the first time does not wait again.
 * - blockdev-snapshot wants an overlay that was opened with `backing: null`. The node keeps that option, and loses what is
 *   below it when it is made read-only itself.
 */
export async function addDiskLayer(qmp: Qmp, { disk, below, belowThat, node, file }: DiskLayer): Promise<void> {
  const device = nodeName(disk);
  const overlay = (name: string) => ({ driver: 'qcow2', 'node-name': name, discard: 'unmap', file: fileNode(name) });
  await qmp.execute('blockdev-add', writableOverlay(node, file));
  try {
    await qmp.execute('x-blockdev-set-iothread', { 'node-name': node, iothread: device });
    await qmp.execute('blockdev-reopen', {
      options: [
        { ...overlay(node), backing: below },
        // Otherwise its file stays locked for writing, and no other disk can use it as its backing file.
        { ...overlay(below), backing: belowThat, 'read-only': true },
        { driver: 'raw', 'node-name': device, discard: 'unmap', file: node },
      ],
    });
  } catch (error) {
    await qmp.execute('blockdev-del', { 'node-name': node }).catch(() => {});
    throw error;
  }
}

/** Closes overlays whose disk is not exported any more, newest first. */
export async function removeDiskLayers(qmp: Qmp, nodes: readonly string[]): Promise<void> {
  for (const node of nodes) await qmp.execute('blockdev-del', { 'node-name': node });
}

/** The names of all nodes of a daemon that begin with `start`. */
export async function nodesNamed(qmp: Qmp, start: string): Promise<string[]> {
  const nodes = (await qmp.execute('query-named-block-nodes', { flat: true })) as { 'node-name': string }[];
  return nodes.map((node) => node['node-name']).filter((name) => name.startsWith(start));
}

function fileNode(node: string): string {
  return `f${node}`;
}
