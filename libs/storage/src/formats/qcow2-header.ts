import { ImageError } from './errors.js';

/** Bytes from the start that `checkQcow2Header` reads: a version 3 header without its extensions. */
export const qcow2HeaderBytes = 104;

const maxL1Bytes = 32 * 2 ** 20;
const maxRefcountTableBytes = 8 * 2 ** 20;
const maxSnapshots = 65_536;
const dirty = 1n;
const corrupt = 2n;
const externalData = 4n;
/** Compression type and extended L2 entries. */
const harmless = 8n | 16n;

/**
 * Refuses a qcow2 file that would make QEMU open another file or work without bounds. Runs before any QEMU opens the file: `qemu-img info`
 * already opens an external data file, whose name may be `json:` with any driver in it. Fields and limits: QEMU, docs/interop/qcow2.
 * Returns the virtual size in bytes.
 *
 * Errors: `image.has_backing_file`, `image.encrypted`, `image.too_large`, `image.unsupported_format`, `image.not_an_image`.
 */
export function checkQcow2Header(head: Buffer, fileBytes: number, maxVirtualBytes: number): number {
  if (head.length < 72) throw damaged('the header is cut off');
  const version = head.readUInt32BE(4);
  if (version !== 2 && version !== 3) {
    throw new ImageError(
      'image.unsupported_format',
      `This is version ${version} of the qcow format. Convert it: qemu-img convert -O qcow2 IMAGE image.qcow2.`,
    );
  }
  if (version === 3) checkFeatures(head);
  if (head.readBigUInt64BE(8) !== 0n || head.readUInt32BE(16) !== 0) {
    throw new ImageError(
      'image.has_backing_file',
      'The image is an overlay on another file. Flatten it: qemu-img convert -O qcow2 IMAGE image.qcow2.',
    );
  }
  if (head.readUInt32BE(32) !== 0) {
    throw new ImageError('image.encrypted', 'The image is encrypted. Decrypt it with qemu-img convert.');
  }
  return checkSizes(head, fileBytes, maxVirtualBytes);
}

function checkFeatures(head: Buffer): void {
  if (head.length < qcow2HeaderBytes) throw damaged('the header is cut off');
  const features = head.readBigUInt64BE(72);
  if (features & externalData) {
    throw new ImageError(
      'image.has_backing_file',
      "The image's data is in another file. Make it one file: qemu-img convert -O qcow2 IMAGE image.qcow2.",
    );
  }
  if (features & (dirty | corrupt)) {
    throw damaged('it was not closed properly, or is marked as corrupt; repair it with "qemu-img check -r all"');
  }
  if (features & ~harmless) {
    throw new ImageError(
      'image.unsupported_format',
      'The image uses features of qcow2 that M2 does not know. Convert it with a plain "qemu-img convert -O qcow2".',
    );
  }
}

function checkSizes(head: Buffer, fileBytes: number, maxVirtualBytes: number): number {
  const clusterBits = head.readUInt32BE(20);
  if (clusterBits < 9 || clusterBits > 21) throw damaged(`clusters of 2^${clusterBits} bytes do not exist`);
  const virtual = head.readBigUInt64BE(24);
  if (virtual === 0n) throw damaged('its disk has no bytes');
  if (virtual > BigInt(maxVirtualBytes)) {
    throw new ImageError(
      'image.too_large',
      `The disk in the image has ${virtual} bytes, allowed are ${maxVirtualBytes}. Shrink it, or ask the operator to raise the limit.`,
    );
  }
  const tables = [
    { name: 'L1 table', at: head.readBigUInt64BE(40), bytes: head.readUInt32BE(36) * 8, max: maxL1Bytes },
    {
      name: 'refcount table',
      at: head.readBigUInt64BE(48),
      bytes: head.readUInt32BE(56) * 2 ** clusterBits,
      max: maxRefcountTableBytes,
    },
  ];
  for (const { name, at, bytes, max } of tables) {
    if (bytes > max || at + BigInt(bytes) > BigInt(fileBytes)) throw damaged(`its ${name} is not in the file`);
  }
  if (head.readUInt32BE(60) > maxSnapshots) throw damaged('it has too many snapshots');
  return Number(virtual);
}

function damaged(reason: string): ImageError {
  return new ImageError(
    'image.not_an_image',
    `The qcow2 file is damaged: ${reason}. Create it again, or upload it again.`,
  );
}
