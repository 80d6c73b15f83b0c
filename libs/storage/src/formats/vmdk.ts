import type { FileHandle } from 'node:fs/promises';
import { checkVmdkDescriptor } from './vmdk-descriptor.js';
import {
  checkVmdkHeader,
  damaged,
  descriptorSectors,
  footerBytes,
  sectorBytes,
  type SparseExtent,
  tableEntries,
} from './vmdk-header.js';

type Read = (length: number, position: number) => Promise<Buffer>;

/**
 * Refuses a VMDK file that is not one self-contained disk. Runs before any QEMU opens it: a VMDK may name any other file as an extent or as
 * its parent, and QEMU would give away that file's content. Returns the virtual size in bytes. Errors: `image.has_backing_file`,
 * `image.too_large`, `image.unsupported_format`, `image.not_an_image`.
 */
export async function checkVmdk(file: FileHandle, fileBytes: number, maxVirtualBytes: number): Promise<number> {
  const read: Read = async (length, position) => {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, position);
    return buffer.subarray(0, bytesRead);
  };
  const head = await read(sectorBytes, 0);
  const tail = await read(footerBytes, Math.max(0, fileBytes - footerBytes));
  const extent = checkVmdkHeader(head, tail, fileBytes, maxVirtualBytes);
  checkVmdkDescriptor(await read(descriptorSectors * sectorBytes, sectorBytes));
  await checkTables(read, extent, fileBytes);
  return extent.virtualBytes;
}

/**
 * Follows every pointer. To QEMU, everything after the end of the file is zeros: it would make a truncated file a disk with holes, without
 * an error.
 */
async function checkTables(read: Read, { directoryAt, tables }: SparseExtent, fileBytes: number): Promise<void> {
  const directory = await read(tables * 4, directoryAt);
  // A set, so that a crafted directory does not make us read a table twice.
  for (const table of new Set(pointers(directory))) {
    const entries = await read(tableEntries * 4, table * sectorBytes);
    if (entries.length < tableEntries * 4) throw damaged('a grain table is not in the file');
    for (const grain of pointers(entries)) {
      if (grain * sectorBytes >= fileBytes) throw damaged('a part of its data is not in the file');
    }
  }
}

/** The sectors that a table points to; 0 means "absent", and 1 in a grain table "zeros". */
function* pointers(table: Buffer): Generator<number> {
  for (let at = 0; at < table.length; at += 4) {
    const pointer = table.readUInt32LE(at);
    if (pointer > 1) yield pointer;
  }
}
