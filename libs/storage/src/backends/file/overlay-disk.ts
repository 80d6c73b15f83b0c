import { createHash } from 'node:crypto';
import { writableOverlay } from '@m2/storage-daemon';
import type { DiskExport, DiskLayer } from '@m2/storage-daemon';
import type { ContentFile, DiskFile } from './catalog.js';

/** An overlay that is written to, and what it stands on. */
export interface OverlayFiles {
  disk: DiskFile;
  below: ContentFile[];
}

/**
 * How the daemon opens an overlay.
 *
 * - The exported node passes everything on to the node that has the overlay: when the disk is tagged, it is given another
 *   to pass things on to, and the export does not notice.
 * - Caching: writes go to the host's page cache and are durable after a flush, which is fdatasync of the overlay. So not
 *   `cache.no-flush`; not `cache.direct` either, as the page cache holds the golden volume's blocks once for all its clones.
 * - Every format is said; the name of the backing file in an overlay's header is not used.
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

/** What takes the writes of a disk, when it is tagged, after its files with the numbers `before`. */
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

/** What the names of all nodes with overlays begin with. */
export const overlayNodes = 'overlay-';

/** At most 30 characters, as QEMU allows 31 and the nodes below have one more: 8, 15 and 7, for a million tags of a disk. */
export function overlayNode(volume: string, number: number): string {
  return `${overlayNodesOf(volume)}${number}`;
}

export function overlayNodesOf(volume: string): string {
  return `${overlayNodes}${createHash('sha256').update(volume).digest('hex').slice(0, 15)}-`;
}

/** What the first overlay of a disk stands on; each other stands on the one before. */
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
