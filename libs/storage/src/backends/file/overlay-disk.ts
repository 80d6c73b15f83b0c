import { createHash } from 'node:crypto';
import { writableOverlay } from '@m2/storage-daemon';
import type { DiskExport, DiskLayer } from '@m2/storage-daemon';
import type { ContentFile, DiskFile } from './catalog.js';

/** An overlay that takes writes, and what is below it. */
export interface OverlayFiles {
  disk: DiskFile;
  below: ContentFile[];
}

/**
 * How the daemon opens an overlay.
 *
 * - The exported node passes everything to the node that has the overlay. When the disk is tagged, it gets another node to pass
 *   things to, and the export does not notice.
 * - Caching: writes go to the host's page cache and are durable after a flush, which is fdatasync of the overlay. So neither
 *   `cache.no-flush` nor `cache.direct`: the page cache holds the golden volume's blocks once for all of its clones.
 * - Every format is given explicitly; the name of the backing file in an overlay's header is not used.
 */
export function overlayDisk({ disk, below }: OverlayFiles, mountpoint: string): DiskExport {
  const overlay = writableOverlay(overlayNode(disk.volume, disk.number), disk.path);
  return {
    disk: disk.volume,
    mountpoint,
    blockdev: {
      driver: 'raw',
      discard: 'unmap',
      file: { ...overlay, backing: { ...readOnly(below), 'node-name': backingNode(disk.volume, disk.number) } },
    },
  };
}

/** The node that takes the writes of a disk when it is tagged, above its files with the numbers `before`. */
export function nextLayer({ volume, number, path }: DiskFile, before: readonly number[]): DiskLayer {
  const [below = 0, belowThat] = before.toReversed();
  return {
    disk: volume,
    below: overlayNode(volume, below),
    belowThat: belowThat === undefined ? backingNode(volume, below) : overlayNode(volume, belowThat),
    node: overlayNode(volume, number),
    file: path,
  };
}

/** Prefix of the names of all nodes with overlays. */
export const overlayNodes = 'overlay-';

/**
 * At most 30 characters: QEMU allows 31, and the names of the nodes below have one more. 8 + 15 + 7 suffice for a million tags of a disk.
 */
export function overlayNode(volume: string, number: number): string {
  return `${overlayNodesOf(volume)}${number}`;
}

export function overlayNodesOf(volume: string): string {
  return `${overlayNodes}${createHash('sha256').update(volume).digest('hex').slice(0, 15)}-`;
}

/** What is below the first overlay of a disk; each other overlay is above the one before. */
function backingNode(volume: string, number: number): string {
  return `b${overlayNode(volume, number)}`;
}

function readOnly([file, ...below]: ContentFile[]): object | null {
  if (!file) return null;
  return {
    driver: file.format,
    'read-only': true,
    file: { driver: 'file', filename: file.path, 'read-only': true },
    ...(file.format === 'qcow2' && { backing: readOnly(below) }),
  };
}
