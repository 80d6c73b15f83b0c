import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { StorageError } from '../../storage.port.js';
import { readFully } from '../read-fully.js';
import type { OpenLayer, Run } from './layer-file.js';
import { bytesPerL1Entry, clusterBits, extendedL2 } from './qcow2-overlay.js';

const cluster = 2 ** clusterBits;
const subclusters = 32;
const subcluster = cluster / subclusters;
const offsetMask = 0x00fffffffffffe00n;
const compressed = 1n << 62n;
const keptTables = 8;

/**
 * Reads the tables of an overlay that `writeOverlay` created and QEMU wrote to (QEMU, docs/interop/qcow2, "Extended L2 Entries"): which of
 * its subclusters have data, and where. With it, tags and differences are read without a process per reader. Not for images from elsewhere:
 * those have compression, encryption, other sizes.
 */
export class Qcow2Layer implements OpenLayer {
  private readonly tables = new Map<number, Promise<Buffer>>();

  private constructor(
    readonly file: FileHandle,
    readonly sizeBytes: number,
    private readonly l1: Buffer,
  ) {}

  static async open(path: string): Promise<Qcow2Layer> {
    const file = await open(path, 'r');
    try {
      const head = Buffer.alloc(104);
      await readFully(file, head, 0, head.length, 0);
      if (
        head.readUInt32BE(0) !== 0x514649fb ||
        head.readUInt32BE(20) !== clusterBits ||
        (head.readBigUInt64BE(72) & extendedL2) === 0n
      ) {
        throw new StorageError('storage.unavailable', `${path} is not an overlay of M2. Restore it from a backup.`);
      }
      const l1 = Buffer.alloc(head.readUInt32BE(36) * 8);
      await readFully(file, l1, 0, l1.length, Number(head.readBigUInt64BE(40)));
      return new Qcow2Layer(file, Number(head.readBigUInt64BE(24)), l1);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async *runs(offset: number, end: number): AsyncIterable<Run> {
    let last: Run | undefined;
    for await (const run of this.pieces(offset, Math.min(end, this.sizeBytes))) {
      const fits = last?.state === run.state && (run.state !== 'data' || last.at + last.length === run.at);
      if (last && fits) last.length += run.length;
      else {
        if (last) yield last;
        last = run;
      }
    }
    if (last) yield last;
  }

  private async *pieces(offset: number, end: number): AsyncIterable<Run> {
    for (let at = offset; at < end;) {
      const l2At = Number(this.l1.readBigUInt64BE(Math.floor(at / bytesPerL1Entry) * 8) & offsetMask);
      const tableEnd = Math.min(end, (Math.floor(at / bytesPerL1Entry) + 1) * bytesPerL1Entry);
      if (l2At === 0) yield { offset: at, length: tableEnd - at, state: 'absent', at: 0 };
      else yield* this.ofTable(await this.table(l2At), at, tableEnd);
      at = tableEnd;
    }
  }

  private *ofTable(table: Buffer, offset: number, end: number): Iterable<Run> {
    for (let at = offset; at < end;) {
      const entry = (Math.floor(at / cluster) % (bytesPerL1Entry / cluster)) * 16;
      const host = table.readBigUInt64BE(entry);
      if (host & compressed)
        throw new StorageError(
          'storage.unavailable',
          'An overlay has compressed clusters, which M2 does not write. Restore it from a backup.',
        );
      const [zeros, allocated] = [table.readUInt32BE(entry + 8), table.readUInt32BE(entry + 12)];
      const clusterEnd = Math.min(end, (Math.floor(at / cluster) + 1) * cluster);
      if ((zeros | allocated) === 0) {
        yield { offset: at, length: clusterEnd - at, state: 'absent', at: 0 };
        at = clusterEnd;
        continue;
      }
      while (at < clusterEnd) {
        const bit = 1 << (Math.floor(at / subcluster) % subclusters);
        const next = Math.min(clusterEnd, (Math.floor(at / subcluster) + 1) * subcluster);
        const state = allocated & bit ? 'data' : zeros & bit ? 'zero' : 'absent';
        yield { offset: at, length: next - at, state, at: Number(host & offsetMask) + (at % cluster) };
        at = next;
      }
    }
  }

  /** Tables are read in order; each covers a gibibyte of the disk and takes 128 KiB. A few are cached. */
  private table(at: number): Promise<Buffer> {
    const known = this.tables.get(at);
    if (known) return known;
    const oldest = this.tables.keys().next();
    if (this.tables.size >= keptTables && !oldest.done) this.tables.delete(oldest.value);
    const buffer = Buffer.alloc(cluster);
    const loading = readFully(this.file, buffer, 0, cluster, at).then(() => buffer);
    this.tables.set(at, loading);
    return loading;
  }
}
