import { ImageError } from './errors.js';

/**
 * A VMDK sparse extent in one file, `monolithicSparse` or `streamOptimized`. Fields: VMware, Virtual Disk Format 5.0,
 * "Hosted Sparse Extents" and "Stream-Optimized Compressed Sparse Extents"; all numbers are little-endian.
 */
export interface SparseExtent {
  virtualBytes: number;
  /** Offset of the grain directory in bytes, and how many grain tables it has. */
  directoryAt: number;
  tables: number;
}

export const sectorBytes = 512;
/** Entries of a grain table; the format allows no other number. */
export const tableEntries = 512;
/** QEMU looks for the descriptor in this many sectors after the header, whatever place the header gives. */
export const descriptorSectors = 20;
/** The end of a stream: a marker, the footer (a header again) and another marker, one sector each. */
export const footerBytes = 3 * sectorBytes;

const sector = BigInt(sectorBytes);
const directoryAtEnd = 2n ** 64n - 1n;
const flag = { newLines: 1 << 0, redundantDirectory: 1 << 1, compressed: 1 << 16 };
const deflate = 1;
const marker = { endOfStream: 0, footer: 3 };
/** 4 KiB and 1 MiB. QEMU would accept grains of 1 GiB, and use as much memory. */
const grainSectors = { min: 8n, max: 2048n };

/**
 * Refuses a header that would make QEMU open another file, read outside of this one or work without bounds. `head` and `tail` are the
 * file's first sector and its last `footerBytes`. Errors: `image.has_backing_file`, `image.too_large`, `image.unsupported_format`,
 * `image.not_an_image`.
 */
export function checkVmdkHeader(head: Buffer, tail: Buffer, fileBytes: number, maxVirtualBytes: number): SparseExtent {
  if (head.length < sectorBytes) throw damaged('the header is cut off');
  const magic = head.toString('latin1', 0, 4);
  if (magic === 'COWD') throw unsupported('This is a VMDK of the old ESX format (COWD).');
  // A text that names the files with the data, or a header that points QEMU to such a text: both could name any file of ours.
  if (magic !== 'KDMV' || head.readBigUInt64LE(12) === 0n) throw inOtherFiles();
  checkDescriptorPlace(head.readBigUInt64LE(28), head.readBigUInt64LE(36));
  if (head.readBigUInt64LE(56) !== directoryAtEnd) return check(head, fileBytes, maxVirtualBytes);

  // QEMU counts from the end in whole sectors, so the size must be whole sectors for both to read the same footer.
  if (fileBytes % sectorBytes !== 0 || tail.length < footerBytes) throw damaged('the stream is cut off');
  const footer = tail.subarray(sectorBytes, 2 * sectorBytes);
  const end = tail.subarray(2 * sectorBytes);
  const marked =
    tail.readUInt32LE(8) === 0 &&
    tail.readUInt32LE(12) === marker.footer &&
    footer.toString('latin1', 0, 4) === 'KDMV' &&
    end.readBigUInt64LE(0) === 0n &&
    end.readUInt32LE(8) === 0 &&
    end.readUInt32LE(12) === marker.endOfStream;
  if (!marked) throw damaged('the stream is cut off');
  // From here on the footer counts. Its author is the same as the header's.
  if (!footer.subarray(12, 28).equals(head.subarray(12, 28))) throw damaged('its header and its footer differ');
  return check(footer, fileBytes, maxVirtualBytes);
}

function check(header: Buffer, fileBytes: number, maxVirtualBytes: number): SparseExtent {
  const version = header.readUInt32LE(4);
  if (version < 1 || version > 3) throw unsupported(`This is version ${version} of VMDK.`);
  const flags = header.readUInt32LE(8);
  if (flags & flag.newLines && header.toString('latin1', 73, 77) !== '\n \r\n') {
    throw damaged('it was transferred as text');
  }
  const compression = header.readUInt16LE(77);
  if (compression > deflate || (compression === deflate) !== (flags & flag.compressed) > 0) {
    throw unsupported('The image uses a compression that M2 does not know.');
  }
  const capacity = header.readBigUInt64LE(12);
  if (capacity === 0n) throw inOtherFiles();
  if (capacity * sector > BigInt(maxVirtualBytes)) {
    throw new ImageError(
      'image.too_large',
      `The disk in the image has ${capacity * sector} bytes, allowed are ${maxVirtualBytes}. Shrink it, or ask the operator to raise the limit.`,
    );
  }
  const grain = header.readBigUInt64LE(20);
  if (grain < grainSectors.min || grain > grainSectors.max || (grain & (grain - 1n)) !== 0n) {
    throw damaged(`its grains of ${grain} sectors are no valid size`);
  }
  if (header.readUInt32LE(44) !== tableEntries) throw damaged('its grain tables have no valid size');

  const perTable = grain * BigInt(tableEntries);
  const tables = (capacity + perTable - 1n) / perTable;
  const directories = [header.readBigUInt64LE(56)];
  if (flags & flag.redundantDirectory) directories.push(header.readBigUInt64LE(48));
  for (const at of directories) {
    if (at === 0n || at * sector + tables * 4n > BigInt(fileBytes)) {
      throw damaged('its grain directory is not in the file');
    }
  }
  if (header.readBigUInt64LE(64) * sector > BigInt(fileBytes)) throw damaged('it is cut off');
  return {
    virtualBytes: Number(capacity * sector),
    directoryAt: Number(directories[0]! * sector),
    tables: Number(tables),
  };
}

function checkDescriptorPlace(at: bigint, sectors: bigint): void {
  if (at === 0n) throw inOtherFiles(); // one of several extents, with the descriptor in another file
  if (at !== 1n || sectors < 1n || sectors > BigInt(descriptorSectors)) {
    throw damaged('its descriptor is not behind its header');
  }
}

export function inOtherFiles(): ImageError {
  return new ImageError(
    'image.has_backing_file',
    'The disk of this VMDK is in several files, or depends on another one. Make it one file: qemu-img convert -O qcow2 IMAGE image.qcow2.',
  );
}

export function unsupported(what: string): ImageError {
  return new ImageError('image.unsupported_format', `${what} Convert it: qemu-img convert -O qcow2 IMAGE image.qcow2.`);
}

export function damaged(reason: string): ImageError {
  return new ImageError(
    'image.not_an_image',
    `The VMDK file is damaged: ${reason}. Create it again, or upload it again.`,
  );
}
