import type { VolumeReader } from '@m2/storage';
import type { Piece } from './pieces.js';

/** The importing program keeps a record in memory. */
const maxRecordBytes = 4 * 2 ** 20;

export interface DiffNames {
  /** The snapshot that must exist where the diff is imported; absent: an empty image. */
  from?: string | undefined;
  /** The snapshot that the import creates at the end. */
  to?: string | undefined;
}

/**
 * What changed in a volume since its tag `since` (absent: all of its data), in the format of `rbd export-diff` and `rbd import-diff`:
 * version 1 of Ceph's doc/dev/rbd-diff. All numbers are little-endian.
 */
export async function* rbdDiffPieces(
  reader: VolumeReader,
  since: string | undefined,
  names: DiffNames,
): AsyncGenerator<Piece> {
  const records: Buffer[] = [Buffer.from('rbd diff v1\n')];
  if (names.from !== undefined) records.push(nameRecord('f', names.from));
  if (names.to !== undefined) records.push(nameRecord('t', names.to));
  records.push(record('s', reader.sizeBytes));
  yield Buffer.concat(records);
  for await (const { offset, length, data } of reader.extents(since)) {
    if (!data) {
      // Without an earlier tag, nothing has to become zeros.
      if (since !== undefined) yield record('z', offset, length);
      continue;
    }
    for (let at = offset; at < offset + length; at += maxRecordBytes) {
      const part = Math.min(maxRecordBytes, offset + length - at);
      yield record('w', at, part);
      yield { offset: at, length: part };
    }
  }
  yield Buffer.from('e');
}

function record(tag: string, ...numbers: number[]): Buffer {
  const bytes = Buffer.alloc(1 + 8 * numbers.length);
  bytes.write(tag);
  numbers.forEach((number, index) => bytes.writeBigUInt64LE(BigInt(number), 1 + 8 * index));
  return bytes;
}

function nameRecord(tag: string, name: string): Buffer {
  const head = Buffer.alloc(5);
  head.write(tag);
  head.writeUInt32LE(Buffer.byteLength(name), 1);
  return Buffer.concat([head, Buffer.from(name)]);
}
