import { open } from 'node:fs/promises';

/**
 * Writes an empty qcow2 overlay: header, refcounts and an empty L1 table. Format: QEMU, docs/interop/qcow2 (sections "Header", "Header
 * extensions", "Refcounts", "Extended L2 Entries"). Written here because a clone is on the hot path: a daemon needs a job with several
 * round trips, `qemu-img create` a fork.
 *
 * Clusters of 128 KiB with extended L2 entries, which means 32 subclusters of 4 KiB: a node's first 4 KiB write copies nothing from the
 * golden volume. With plain 64 KiB clusters each such write reads and writes 64 KiB.
 */
export const clusterBits = 17;
export const extendedL2 = 1n << 4n;
const cluster = 1 << clusterBits;
/** An L2 table is one cluster, with 16 bytes per entry. */
export const bytesPerL1Entry = (cluster / 16) * cluster;
const headerLength = 104;
const backingFormatExtension = 0xe2792aca;

/**
 * The backing file is for other tools; M2 names it explicitly each time. The overlay of a tag names none: QEMU adds only such an overlay to
 * a disk that is in use (see addDiskLayer).
 */
export interface Backing {
  name: string;
  format: 'raw' | 'qcow2';
}

/** One cluster of L1 entries. Larger disks would need a longer table. */
export const maxOverlayBytes = (cluster / 8) * bytesPerL1Entry;

/** Offsets of the four clusters, each with a reference count of one. */
const refcountTable = cluster;
const refcountBlock = 2 * cluster;
const l1Table = 3 * cluster;

/** `sizeBytes` is the virtual size; `backing` is the file below, with a name relative to the overlay's directory. */
export async function writeOverlay(path: string, sizeBytes: number, backing?: Backing): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.write(header(sizeBytes, backing), 0, undefined, 0);
    await file.write(bigEndian64(BigInt(refcountBlock)), 0, undefined, refcountTable);
    await file.write(Buffer.from([0, 1, 0, 1, 0, 1, 0, 1]), 0, undefined, refcountBlock);
    await file.truncate(l1Table + cluster);
    await file.sync();
  } finally {
    await file.close();
  }
}

/**
 * Makes the disk in an overlay larger. Nobody may have it open. The L1 table has its full length from the beginning, so this writes two
 * fields of one sector, which happens completely or not at all.
 */
export async function resizeOverlay(path: string, sizeBytes: number): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const fields = Buffer.alloc(16);
    await file.read(fields, 0, 16, 24);
    fields.writeBigUInt64BE(BigInt(sizeBytes), 0);
    fields.writeUInt32BE(Math.ceil(sizeBytes / bytesPerL1Entry), 12);
    await file.write(fields, 0, 16, 24);
    await file.sync();
  } finally {
    await file.close();
  }
}

function header(sizeBytes: number, backing: Backing | undefined): Buffer {
  const fields = Buffer.alloc(headerLength + 8); // an extension of type 0 ends the list
  fields.writeUInt32BE(0x514649fb, 0); // "QFI\xfb"
  fields.writeUInt32BE(3, 4);
  fields.writeUInt32BE(clusterBits, 20);
  fields.writeBigUInt64BE(BigInt(sizeBytes), 24);
  fields.writeUInt32BE(Math.ceil(sizeBytes / bytesPerL1Entry), 36);
  fields.writeBigUInt64BE(BigInt(l1Table), 40);
  fields.writeBigUInt64BE(BigInt(refcountTable), 48);
  fields.writeUInt32BE(1, 56); // clusters of the refcount table
  fields.writeBigUInt64BE(extendedL2, 72); // incompatible features
  fields.writeUInt32BE(4, 96); // refcounts of 1 << 4 bits
  fields.writeUInt32BE(headerLength, 100);
  return backing ? withBacking(fields, backing) : fields;
}

function withBacking(fields: Buffer, backing: Backing): Buffer {
  const extension = Buffer.alloc(16); // the name of the format is padded to 8 bytes
  extension.writeUInt32BE(backingFormatExtension, 0);
  extension.writeUInt32BE(backing.format.length, 4);
  extension.write(backing.format, 8);
  const name = Buffer.from(backing.name);
  const nameAt = fields.length + extension.length;
  fields.writeBigUInt64BE(BigInt(nameAt), 8);
  fields.writeUInt32BE(name.length, 16);
  const end = Buffer.alloc(8);
  return Buffer.concat([fields.subarray(0, headerLength), extension, end, name]);
}

function bigEndian64(value: bigint): Buffer {
  const out = Buffer.alloc(8);
  out.writeBigUInt64BE(value);
  return out;
}
