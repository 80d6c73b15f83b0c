import type { Extent, VolumeReader } from '../../storage.port.js';
import type { ContentFile } from './catalog.js';
import { differences } from './differences.js';
import { readFully } from '../read-fully.js';
import type { OpenLayer } from './layer-file.js';
import { Qcow2Layer } from './qcow2-layer.js';
import { RawLayer } from './raw-layer.js';

/**
 * Reads a file and everything below it. All files are opened at once. Open files can be read while another call removes or replaces them,
 * so a long copy blocks nobody.
 */
export class ChainReader implements VolumeReader {
  private constructor(
    private readonly files: ContentFile[],
    private readonly layers: OpenLayer[],
    private readonly openTag: (tag: string) => Promise<ChainReader>,
  ) {}

  /** `openTag` opens a tag of the same disk. */
  static async open(files: ContentFile[], openTag: (tag: string) => Promise<ChainReader>): Promise<ChainReader> {
    const layers: OpenLayer[] = [];
    try {
      for (const { format, path } of files) {
        layers.push(await (format === 'raw' ? RawLayer.open(path) : Qcow2Layer.open(path)));
      }
      return new ChainReader(files, layers, openTag);
    } catch (error) {
      await closeAll(layers);
      throw error;
    }
  }

  get sizeBytes(): number {
    return this.layers[0]!.sizeBytes;
  }

  async *extents(since?: string): AsyncIterable<Extent> {
    if (since === undefined) {
      for await (const extent of merged(this.told(this.layers))) if (extent.data) yield extent;
      return;
    }
    const older = await this.openTag(since);
    try {
      const common = this.files.findIndex((file) => isSame(file, older.files[0]!));
      // The layers above the tag's layer have what was written since. A disk that was made flat has no older layers below it.
      if (common >= 0) yield* merged(this.told(this.layers.slice(0, common)));
      else yield* merged(differences(this, older));
    } finally {
      await older.close();
    }
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const buffer = Buffer.alloc(length);
    await this.fill(buffer, offset, offset, offset + length, this.layers);
    return buffer;
  }

  close(): Promise<void> {
    return closeAll(this.layers);
  }

  /** Reads a range into `buffer`, whose first byte is offset `base`. */
  private async fill(
    buffer: Buffer,
    base: number,
    offset: number,
    end: number,
    [layer, ...below]: OpenLayer[],
  ): Promise<void> {
    if (!layer) return;
    for await (const run of layer.runs(offset, end)) {
      if (run.state === 'data') await readFully(layer.file, buffer, run.offset - base, run.length, run.at);
      if (run.state === 'absent') await this.fill(buffer, base, run.offset, run.offset + run.length, below);
    }
  }

  /** The extents of these layers; ranges that are absent in all of them are left out. */
  private async *told([layer, ...below]: OpenLayer[], offset = 0, end = this.sizeBytes): AsyncIterable<Extent> {
    if (!layer) return;
    for await (const run of layer.runs(offset, end)) {
      if (run.state === 'absent') yield* this.told(below, run.offset, run.offset + run.length);
      else yield { offset: run.offset, length: run.length, data: run.state === 'data' };
    }
  }
}

function isSame(a: ContentFile, b: ContentFile): boolean {
  return a.volume === b.volume && a.kind === 'layer' && b.kind === 'layer' && a.number === b.number;
}

async function closeAll(layers: OpenLayer[]): Promise<void> {
  for (const { file } of layers) await file.close();
}

/** Joins adjacent extents of the same kind. */
async function* merged(extents: AsyncIterable<Extent>): AsyncIterable<Extent> {
  let last: Extent | undefined;
  for await (const extent of extents) {
    if (last && last.data === extent.data && last.offset + last.length === extent.offset) last.length += extent.length;
    else {
      if (last) yield last;
      last = { ...extent };
    }
  }
  if (last) yield last;
}
