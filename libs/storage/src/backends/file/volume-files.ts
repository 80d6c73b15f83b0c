import { open, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { asStorageError } from '../../storage.port.js';
import { Catalog } from './catalog.js';
import type { ContentFile, DiskFile, GoldenFile, LayerFile, LeftFile, TagFile, VolumeFile } from './catalog.js';
import { qcow2VirtualSize } from '../qcow2-size.js';

/**
 * The directory of volume files. The names are the only record, so nothing can contradict them. A file with content keeps its name, because
 * QEMU may open it again by that name:
 *
 * - `<volume>.golden.raw`
 * - `<volume>.<origin>.raw`: a disk. The origin is a golden volume, a layer (`<volume>-<n>`), or `flat`.
 * - `<volume>.<origin>.qcow2`, and from its first tag on `<volume>.<origin>.<n>.qcow2`: the disk, if it has the greatest
 *   number, else a layer, which has the disk's content of an earlier moment.
 * - `<volume>.<n>.layer.raw`: a layer with all bytes. See Catalog for the dependencies.
 * - `<volume>.<tag>.<n>.tag`: empty; names a layer.
 * - `<volume>.gone`: a disk that is being removed.
 * - `<volume>.partial`, `<volume>.<n>.partial`: a volume, or a file of it, that is being created.
 *
 * The directory is read once, and again for a list of all volumes: only this process changes it (see `ownDirectory`), and only here. What a
 * person changes by hand meanwhile is found by the next list or start.
 */
export class VolumeFiles {
  private catalog: Promise<Catalog> | undefined;
  /** For each reading of the directory under way: the names that changed since it began. */
  private readonly readings = new Set<Set<string>>();

  constructor(readonly directory: string) {}

  golden(volume: string): GoldenFile {
    return { volume, kind: 'golden', format: 'raw', path: join(this.directory, `${volume}.golden.raw`) };
  }

  rawDisk(volume: string, origin: string): DiskFile {
    const path = join(this.directory, `${volume}.${origin}.raw`);
    return { volume, kind: 'disk', origin, number: 0, format: 'raw', path };
  }

  overlay(volume: string, origin: string, number: number): DiskFile {
    const path = join(
      this.directory,
      number === 0 ? `${volume}.${origin}.qcow2` : `${volume}.${origin}.${number}.qcow2`,
    );
    return { volume, kind: 'disk', origin, number, format: 'qcow2', path };
  }

  layer(volume: string, number: number): LayerFile {
    const path = join(this.directory, `${volume}.${number}.layer.raw`);
    return { volume, kind: 'layer', number, format: 'raw', path };
  }

  tag(volume: string, tag: string, number: number): TagFile {
    return { volume, kind: 'tag', tag, number, path: join(this.directory, `${volume}.${tag}.${number}.tag`) };
  }

  gone(volume: string): LeftFile {
    return { volume, kind: 'gone', path: join(this.directory, `${volume}.gone`) };
  }

  /** Layers have their own partial names, because a disk can be tagged while one of its layers is made flat. */
  partialPath(volume: string, layer?: number): string {
    return join(this.directory, layer === undefined ? `${volume}.partial` : `${volume}.${layer}.partial`);
  }

  /** All files; stays up to date. */
  read(): Promise<Catalog> {
    if (!this.catalog) {
      const reading = this.names().then((names) => new Catalog(names, (name) => this.parse(name)));
      this.catalog = reading;
      reading.catch(() => (this.catalog = undefined));
    }
    return this.catalog;
  }

  /** The same, after a look at the directory. */
  async readAgain(): Promise<Catalog> {
    const catalog = await this.read();
    const changed = new Set<string>();
    this.readings.add(changed);
    try {
      catalog.correct(await this.names(), changed);
    } finally {
      this.readings.delete(changed);
    }
    return catalog;
  }

  /**
   * Creates a file under its partial name, and renames it when its bytes are on disk: after a power cut it is complete or still partial.
   * After an error nothing stays. `publish` may choose the moment of the renaming.
   */
  async create(
    file: GoldenFile | DiskFile | LayerFile,
    fill: (partial: string) => Promise<void>,
    publish: (rename: () => Promise<void>) => Promise<void> = (rename) => rename(),
  ): Promise<void> {
    const partial = this.partialPath(file.volume, file.kind === 'layer' ? file.number : undefined);
    try {
      await rm(partial, { force: true });
      await this.changed('add', partial);
      await fill(partial);
      await publish(() => this.moved(partial, file.path));
    } catch (error) {
      await this.unlink(partial);
      throw asStorageError(error, `make volume ${file.volume}`);
    }
  }

  async rename(from: VolumeFile, to: VolumeFile): Promise<void> {
    try {
      await this.moved(from.path, to.path);
    } catch (error) {
      throw asStorageError(error, `rename ${from.path}`);
    }
  }

  async mark(tag: TagFile): Promise<void> {
    try {
      await writeFile(tag.path, '', { mode: 0o600 });
      await this.changed('add', tag.path);
      await this.sync();
    } catch (error) {
      throw asStorageError(error, `tag ${tag.volume}`);
    }
  }

  /** Durable: a volume that was reported as removed does not come back after a power cut. */
  async remove(paths: string[]): Promise<void> {
    try {
      for (const path of paths) await this.unlink(path);
      if (paths.length > 0) await this.sync();
    } catch (error) {
      throw asStorageError(error, `remove ${paths.join(' and ')}`);
    }
  }

  /** Decodes the name of a file in the directory. */
  parse(name: string): VolumeFile | undefined {
    const [volume = '', first = '', ...rest] = name.split('.');
    const path = join(this.directory, name);
    const last = rest.at(-1) ?? first;
    if (last === 'partial') return { volume, kind: 'partial', path };
    if (name === `${volume}.gone`) return this.gone(volume);
    if (name === `${volume}.golden.raw`) return this.golden(volume);
    if (rest.length === 1 && last === 'raw') return this.rawDisk(volume, first);
    if (rest.length === 1 && last === 'qcow2') return this.overlay(volume, first, 0);
    if (rest.length !== 2) return undefined;
    if (last === 'qcow2') return this.overlay(volume, first, Number(rest[0]));
    if (last === 'tag') return this.tag(volume, first, Number(rest[0]));
    return last === 'raw' && rest[0] === 'layer' ? this.layer(volume, Number(first)) : undefined;
  }

  private names(): Promise<string[]> {
    return readdir(this.directory).catch((error: unknown) => {
      throw asStorageError(error, `read ${this.directory}`);
    });
  }

  private async moved(from: string, to: string): Promise<void> {
    await rename(from, to);
    await this.changed('delete', from);
    await this.changed('add', to);
    await this.sync();
  }

  private async unlink(path: string): Promise<void> {
    await rm(path, { force: true });
    await this.changed('delete', path);
  }

  /** After each change of the directory. */
  private async changed(how: 'add' | 'delete', path: string): Promise<void> {
    const catalog = await this.read();
    const name = basename(path);
    for (const reading of this.readings) reading.add(name);
    catalog[how](name);
  }

  /** A rename or an unlink is durable only when its directory is synced. */
  private async sync(): Promise<void> {
    const directory = await open(this.directory, 'r');
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  }
}

/** The size of the volume in a file, in bytes. */
export async function sizeOf(file: ContentFile): Promise<number> {
  const overlay = file.format === 'qcow2' ? await qcow2VirtualSize(file.path) : undefined;
  return overlay ?? (await stat(file.path)).size;
}
