import type { VolumeReader } from '@m2/storage';
import type { Piece } from './pieces.js';

/**
 * A qcow2 file, version 3. The place of every byte is known before the first one is sent, so that no temporary file is needed: header,
 * refcount table and blocks, L1 table, L2 tables, data. Fields: QEMU, docs/interop/qcow2; all numbers are big-endian.
 */
export interface Qcow2File {
  length: number;
  pieces(): Generator<Piece>;
}

const cluster = 64 * 1024;
const pointersPerCluster = cluster / 8;
/** 16 bits each. */
const refcountsPerBlock = cluster / 2;
const headerLength = 104;
/** In an L1 or L2 entry: the refcount is exactly one. */
const copied = 2 ** 31;

/** Adjacent clusters of the volume that have data. */
interface Run {
  first: number;
  count: number;
}

interface Layout {
  virtualBytes: number;
  runs: Run[];
  /** The L1 entries that have an L2 table. */
  filled: number[];
  l1Entries: number;
  /** The first cluster of each part, and the end of the file. */
  blocks: number;
  l1: number;
  l2: number;
  data: number;
  end: number;
}

/** Computes the layout of the file from the data that the volume has. */
export async function qcow2File(reader: VolumeReader): Promise<Qcow2File> {
  const layout = layOut(await dataRuns(reader), Math.ceil(reader.sizeBytes / 512) * 512);
  return { length: layout.end * cluster, pieces: () => pieces(layout, reader.sizeBytes) };
}

async function dataRuns(reader: VolumeReader): Promise<Run[]> {
  const runs: Run[] = [];
  for await (const { offset, length, data } of reader.extents()) {
    if (!data || length === 0) continue;
    const first = Math.floor(offset / cluster);
    const end = Math.ceil((offset + length) / cluster);
    const last = runs.at(-1);
    // Two extents may share a cluster, and adjacent ones become one run.
    if (last && first <= last.first + last.count) last.count = Math.max(last.count, end - last.first);
    else runs.push({ first, count: end - first });
  }
  return runs;
}

function layOut(runs: Run[], virtualBytes: number): Layout {
  const l1Entries = Math.ceil(virtualBytes / (cluster * pointersPerCluster));
  const filled: number[] = [];
  for (const { first, count } of runs) {
    const last = Math.floor((first + count - 1) / pointersPerCluster);
    for (let index = Math.floor(first / pointersPerCluster); index <= last; index++) {
      if (filled.at(-1) !== index) filled.push(index);
    }
  }
  const l1Clusters = Math.ceil((l1Entries * 8) / cluster);
  const dataClusters = runs.reduce((sum, { count }) => sum + count, 0);
  const counted = 1 + l1Clusters + filled.length + dataClusters;
  // The refcounts count their own clusters too.
  let [table, blocks] = [1, 1];
  while (blocks * refcountsPerBlock < counted + table + blocks || table * pointersPerCluster < blocks) {
    blocks = Math.ceil((counted + table + blocks) / refcountsPerBlock);
    table = Math.ceil(blocks / pointersPerCluster);
  }
  const l1 = 1 + table + blocks;
  const l2 = l1 + l1Clusters;
  const data = l2 + filled.length;
  return { virtualBytes, runs, filled, l1Entries, blocks: 1 + table, l1, l2, data, end: data + dataClusters };
}

function* pieces(layout: Layout, volumeBytes: number): Generator<Piece> {
  const { runs, filled, blocks, l1, l2, data, end } = layout;
  yield header(layout);
  yield pointers(
    blocks - 1,
    Array.from({ length: l1 - blocks }, (_, index) => [index, blocks + index]),
    0,
  );
  for (let first = 0; first < (l1 - blocks) * refcountsPerBlock; first += refcountsPerBlock) {
    const block = Buffer.alloc(cluster);
    for (let index = 0; index < Math.min(refcountsPerBlock, end - first); index++) block.writeUInt16BE(1, index * 2);
    yield block;
  }
  if (l2 > l1)
    yield pointers(
      l2 - l1,
      filled.map((entry, index) => [entry, l2 + index]),
      copied,
    );
  yield* l2Tables(runs, data);
  for (const { first, count } of runs) {
    const offset = first * cluster;
    const length = Math.min(count * cluster, volumeBytes - offset);
    yield { offset, length };
    if (length < count * cluster) yield { zeros: count * cluster - length };
  }
}

function header({ virtualBytes, l1Entries, blocks, l1 }: Layout): Buffer {
  const head = Buffer.alloc(cluster); // zeros after the fields: no header extensions
  head.write('QFI\xfb', 'latin1');
  head.writeUInt32BE(3, 4);
  head.writeUInt32BE(Math.log2(cluster), 20);
  head.writeBigUInt64BE(BigInt(virtualBytes), 24);
  head.writeUInt32BE(l1Entries, 36);
  head.writeBigUInt64BE(BigInt(l1 * cluster), 40);
  head.writeBigUInt64BE(BigInt(cluster), 48);
  head.writeUInt32BE(blocks - 1, 56);
  head.writeUInt32BE(Math.log2(16), 96);
  head.writeUInt32BE(headerLength, 100);
  return head;
}

/** A table of `clusters` clusters. `entries` are its pointers: [index, cluster]. */
function pointers(clusters: number, entries: [number, number][], flags: number): Buffer {
  const table = Buffer.alloc(clusters * cluster);
  for (const [entry, target] of entries) writePointer(table, entry, target, flags);
  return table;
}

function* l2Tables(runs: Run[], dataAt: number): Generator<Buffer> {
  let table: Buffer | undefined;
  let current = -1;
  let target = dataAt;
  for (const { first, count } of runs) {
    for (let index = first; index < first + count; index++) {
      if (Math.floor(index / pointersPerCluster) !== current) {
        if (table) yield table;
        table = Buffer.alloc(cluster);
        current = Math.floor(index / pointersPerCluster);
      }
      writePointer(table!, index % pointersPerCluster, target++, copied);
    }
  }
  if (table) yield table;
}

/** Entries are written in halves and not as BigInts: a full volume of terabytes has millions. */
function writePointer(table: Buffer, entry: number, target: number, flags: number): void {
  const offset = target * cluster;
  table.writeUInt32BE(flags + Math.floor(offset / 2 ** 32), entry * 8);
  table.writeUInt32BE(offset % 2 ** 32, entry * 8 + 4);
}
