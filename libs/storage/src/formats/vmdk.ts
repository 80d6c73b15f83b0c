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
 * Refuses a VMDK file that is not one self-contained disk, before any QEMU opens it: a VMDK may name any other file as
 * an extent or as its parent, and QEMU would hand out what is in that one. Returns the virtual size in bytes.
 * Errors: `image.has_backing_file`, `image.too_large`, `image.unsupported_format`, `image.not_an_image`.
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
 * Follows every pointer to its end. To QEMU what lies behind the end of the file is zeros: of a file that was cut off it would make a
 * disk with holes, without a word.
 */
async function checkTables(read: Read, { directoryAt, tables }: SparseExtent, fileBytes: number): Promise<void> {
  const directory = await read(tables * 4, directoryAt);
  // As a set: a crafted directory has us read no table twice, so no more than the file has.
  for (const table of new Set(pointers(directory))) {
    const entries = await read(tableEntries * 4, table * sectorBytes);
    if (entries.length < tableEntries * 4) throw damaged('a grain table is not in the file');
    for (const grain of pointers(entries)) {
      if (grain * sectorBytes >= fileBytes) throw damaged('a part of its data is not in the file');
    }
  }
}

/** The sectors that a table leads to; 0 is "not there", and 1 in a grain table "zeros". */
function* pointers(table: Buffer): Generator<number> {
  for (let at = 0; at < table.length; at += 4) {
    const pointer = table.readUInt32LE(at);
    if (pointer > 1) yield pointer;
  }
}
