import { open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { asStorageError } from '../storage.port.js';
import type { VolumeInfo } from '../storage.port.js';
import { qcow2VirtualSize } from './qcow2-overlay.js';

/** How a clone is stored: `raw` shares extents with its golden volume, `qcow2` is an overlay on it. */
export type CloneFormat = 'raw' | 'qcow2';

/** A volume as its file's name tells it. */
export type VolumeFile = CloneFile | { volume: string; kind: 'golden' | 'partial'; path: string };

/** Its file's name says its golden volume, so no second record can disagree. */
export interface CloneFile {
  volume: string;
  kind: 'clone';
  golden: string;
  format: CloneFormat;
  path: string;
}

/**
 * The directory of volume files:
 * `<volume>.golden.raw`, `<volume>.<golden>.raw` or `.qcow2`, and `<volume>.partial` while one is being made.
 */
export class VolumeFiles {
  constructor(readonly directory: string) {}

  golden(volume: string): VolumeFile {
    return { volume, kind: 'golden', path: join(this.directory, `${volume}.golden.raw`) };
  }

  clone(volume: string, golden: string, format: CloneFormat): VolumeFile {
    return { volume, kind: 'clone', golden, format, path: join(this.directory, `${volume}.${golden}.${format}`) };
  }

  partialPath(volume: string): string {
    return join(this.directory, `${volume}.partial`);
  }

  async all(): Promise<VolumeFile[]> {
    const names = await readdir(this.directory).catch((error: unknown) => {
      throw asStorageError(error, `read ${this.directory}`);
    });
    return names.map((name) => this.parse(name)).filter((file) => file !== undefined);
  }

  /** The finished volume of that name. */
  async find(volume: string): Promise<VolumeFile | undefined> {
    const files = await this.all();
    return files.find((file) => file.volume === volume && file.kind !== 'partial');
  }

  async clones(): Promise<CloneFile[]> {
    const files = await this.all();
    return files.filter((file) => file.kind === 'clone');
  }

  async info(file: VolumeFile): Promise<VolumeInfo> {
    const { size, blocks } = await stat(file.path);
    const overlay = file.kind === 'clone' && file.format === 'qcow2';
    const sizeBytes = (overlay ? await qcow2VirtualSize(file.path) : undefined) ?? size;
    return { name: file.volume, kind: file.kind, sizeBytes, allocatedBytes: blocks * 512 };
  }

  /**
   * Makes a volume file under its partial name, and gives it its real name only when its bytes are on disk: after a
   * power cut a volume is whole or a partial one. Whatever goes wrong, nothing half-made stays.
   */
  async create(file: VolumeFile, fill: (partial: string) => Promise<void>): Promise<VolumeInfo> {
    const partial = this.partialPath(file.volume);
    try {
      await rm(partial, { force: true });
      await fill(partial);
      await rename(partial, file.path);
      await syncDirectory(this.directory);
      return await this.info(file);
    } catch (error) {
      await rm(partial, { force: true });
      throw asStorageError(error, `make volume ${file.volume}`);
    }
  }

  /** Durable: a volume that was reported gone does not come back after a power cut. */
  async remove(paths: string[]): Promise<void> {
    try {
      for (const path of paths) await rm(path, { force: true });
      await syncDirectory(this.directory);
    } catch (error) {
      throw asStorageError(error, `remove ${paths.join(' and ')}`);
    }
  }

  private parse(name: string): VolumeFile | undefined {
    const [volume, second, third, ...rest] = name.split('.');
    if (!volume || !second || rest.length > 0) return undefined;
    const path = join(this.directory, name);
    if (second === 'partial' && third === undefined) return { volume, kind: 'partial', path };
    if (second === 'golden' && third === 'raw') return { volume, kind: 'golden', path };
    if (third === 'raw' || third === 'qcow2') return { volume, kind: 'clone', golden: second, format: third, path };
    return undefined;
  }
}

/** A rename or an unlink is on disk only when its directory is. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
