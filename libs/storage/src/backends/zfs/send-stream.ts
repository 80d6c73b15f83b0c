import { StorageError } from '../../storage.port.js';
import type { Extent } from '../../storage.port.js';

/**
 * The records of a `zfs send` stream, `dmu_replay_record_t` of OpenZFS' include/sys/zfs_ioctl.h: 312 bytes in the byte order of the sending
 * machine, some followed by a payload. Without options `zfs send` uses no others.
 */
const recordBytes = 312;
const types = { begin: 0, object: 1, freeObjects: 2, write: 3, free: 4, end: 5, spill: 7 };
const magic = 0x2f5bacbacn;

/** `DMU_OT_PLAIN_FILE_CONTENTS` of include/sys/dmu.h. All other types are directories and the file system's own tables. */
const fileContents = 19;

/** "To the end of the file and beyond." */
const unbounded = 2n ** 64n - 1n;

/**
 * What a stream says about the content of the one file of a dataset: for a whole stream where it has data, for an incremental one what was
 * written and what became a hole (and perhaps holes that were there before). In order, adjacent ones joined, within `sizeBytes`. Error
 * `storage.unavailable`: this is not such a stream.
 */
export async function* sentExtents(stream: AsyncIterable<Buffer>, sizeBytes: number): AsyncGenerator<Extent, void> {
  let last: Extent | undefined;
  let tail: number | undefined;
  for await (const { offset, length, data } of fileRecords(stream)) {
    // A file's end can be announced before the rest of its content.
    if (length === unbounded) {
      tail = offset;
      continue;
    }
    const start = Math.max(offset, last ? last.offset + last.length : 0);
    const end = Math.min(offset + Number(length), sizeBytes);
    if (end <= start) continue;
    if (last && last.data === data && last.offset + last.length === start) {
      last.length = end - last.offset;
      continue;
    }
    if (last) yield last;
    last = { offset: start, length: end - start, data };
  }
  if (last) yield last;
  const from = Math.max(tail ?? sizeBytes, last ? last.offset + last.length : 0);
  if (from < sizeBytes) yield { offset: from, length: sizeBytes - from, data: false };
}

interface FileRecord {
  offset: number;
  length: bigint;
  data: boolean;
}

async function* fileRecords(stream: AsyncIterable<Buffer>): AsyncGenerator<FileRecord, void> {
  let file: bigint | undefined;
  let first = true;
  for await (const record of records(stream)) {
    const type = record.readUInt32LE(0);
    if (first && (type !== types.begin || record.readBigUInt64LE(8) !== magic))
      throw notAStream('its start is unknown');
    first = false;
    const object = record.readBigUInt64LE(8);
    if (type === types.object && record.readUInt32LE(16) === fileContents) file = object;
    if (object !== file) continue;
    if (type === types.write) yield fileRecord(record, 24, true);
    if (type === types.free) yield fileRecord(record, 16, false);
  }
}

function fileRecord(record: Buffer, at: number, data: boolean): FileRecord {
  return { offset: Number(record.readBigUInt64LE(at)), length: record.readBigUInt64LE(at + 8), data };
}

/** The records without their payloads. */
async function* records(stream: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void> {
  let rest: Buffer = Buffer.alloc(0);
  let skip = 0;
  let ended = false;
  for await (const chunk of stream) {
    let at = Math.min(skip, chunk.length);
    skip -= at;
    if (skip > 0) continue;
    // The rest of a record and the rest to skip never occur together.
    const bytes = rest.length > 0 ? Buffer.concat([rest, chunk.subarray(at)]) : chunk;
    while (at + recordBytes <= bytes.length) {
      const record = bytes.subarray(at, at + recordBytes);
      yield record;
      ended = record.readUInt32LE(0) === types.end;
      at += recordBytes + payloadBytes(record);
    }
    skip = Math.max(0, at - bytes.length);
    rest = bytes.subarray(Math.min(at, bytes.length));
  }
  if (!ended) throw notAStream('it ends early');
}

function payloadBytes(record: Buffer): number {
  switch (record.readUInt32LE(0)) {
    case types.begin:
      return record.readUInt32LE(4);
    case types.object:
      return Math.ceil(record.readUInt32LE(28) / 8) * 8;
    case types.write:
      return Number(record.readBigUInt64LE(32));
    case types.spill:
      return Number(record.readBigUInt64LE(16));
    case types.freeObjects:
    case types.free:
    case types.end:
      return 0;
    default:
      throw notAStream(`it has a record of type ${record.readUInt32LE(0)}`);
  }
}

function notAStream(reason: string): StorageError {
  return new StorageError(
    'storage.unavailable',
    `The output of "zfs send" cannot be read: ${reason}. Check the release of ZFS.`,
  );
}
