import { open } from 'node:fs/promises';

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
