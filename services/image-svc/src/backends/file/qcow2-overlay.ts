import { open } from 'node:fs/promises';

/**
 * Writes an empty qcow2 overlay: header, refcounts and an empty L1 table. Format: QEMU, docs/interop/qcow2 (sections
 * "Header", "Header extensions", "Refcounts", "Extended L2 Entries"). Written here because a clone is on the hot path:
 * asking a daemon for it costs a job with several round trips, `qemu-img create` a fork.
 *
 * Clusters of 128 KiB with extended L2 entries: 32 subclusters of 4 KiB, so a node's first 4 KiB write copies nothing
 * from the golden volume. With plain 64 KiB clusters each such write reads and writes 64 KiB.
 */
const clusterBits = 17;
const cluster = 1 << clusterBits;
const extendedL2 = 1n << 4n;
const bytesPerL1Entry = (cluster / 16) * cluster;
const backingFormatExtension = 0xe2792aca;

/** One cluster of L1 entries; larger disks would need a longer table than we write. */
export const maxOverlayBytes = (cluster / 8) * bytesPerL1Entry;

/** Where things are: four clusters, each with a reference count of one. */
const refcountTable = cluster;
const refcountBlock = 2 * cluster;
const l1Table = 3 * cluster;

/** `sizeBytes` is the virtual size; `backing` the raw file behind it, as a name relative to the overlay's directory. */
export async function writeOverlay(path: string, sizeBytes: number, backing: string): Promise<void> {
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

/** The virtual size in a qcow2 header, in bytes; undefined when the file is not qcow2. */
export async function qcow2VirtualSize(path: string): Promise<number | undefined> {
  const file = await open(path, 'r');
  try {
    const head = Buffer.alloc(32);
    const { bytesRead } = await file.read(head, 0, 32, 0);
    return bytesRead === 32 && head.readUInt32BE(0) === 0x514649fb ? Number(head.readBigUInt64BE(24)) : undefined;
  } finally {
    await file.close();
  }
}

function header(sizeBytes: number, backing: string): Buffer {
  const format = Buffer.from('raw');
  const name = Buffer.from(backing);
  const extensions = 104;
  const end = extensions + 8 + 8; // the format's name is padded to 8 bytes
  const nameAt = end + 8; // an extension of type 0 ends the list
  const out = Buffer.alloc(nameAt + name.length);
  out.writeUInt32BE(0x514649fb, 0); // "QFI\xfb"
  out.writeUInt32BE(3, 4);
  out.writeBigUInt64BE(BigInt(nameAt), 8);
  out.writeUInt32BE(name.length, 16);
  out.writeUInt32BE(clusterBits, 20);
  out.writeBigUInt64BE(BigInt(sizeBytes), 24);
  out.writeUInt32BE(Math.ceil(sizeBytes / bytesPerL1Entry), 36);
  out.writeBigUInt64BE(BigInt(l1Table), 40);
  out.writeBigUInt64BE(BigInt(refcountTable), 48);
  out.writeUInt32BE(1, 56); // clusters of the refcount table
  out.writeBigUInt64BE(extendedL2, 72); // incompatible features
  out.writeUInt32BE(4, 96); // refcounts of 1 << 4 bits
  out.writeUInt32BE(extensions, 100); // header length
  out.writeUInt32BE(backingFormatExtension, extensions);
  out.writeUInt32BE(format.length, extensions + 4);
  format.copy(out, extensions + 8);
  name.copy(out, nameAt);
  return out;
}

function bigEndian64(value: bigint): Buffer {
  const out = Buffer.alloc(8);
  out.writeBigUInt64BE(value);
  return out;
}
