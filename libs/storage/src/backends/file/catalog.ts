import { StorageError } from '../../storage.port.js';

/** A `raw` file has all bytes (a reflinked one shares extents with others), a `qcow2` file is an overlay on another file. */
export type Format = 'raw' | 'qcow2';

export interface GoldenFile {
  kind: 'golden';
  volume: string;
  format: 'raw';
  path: string;
}

/** The file that takes a disk's writes. */
export interface DiskFile {
  kind: 'disk';
  volume: string;
  /** What it was cloned from: see `originId`, or `flat`. */
  origin: string;
  /** Of the overlays of one disk, the one with the greatest number is the disk, and the others are layers. 0 for a raw disk. */
  number: number;
  format: Format;
  path: string;
}

/** The content of a disk at one moment. Nobody writes to it any more. */
export interface LayerFile {
  kind: 'layer';
  volume: string;
  number: number;
  format: Format;
  path: string;
}

/** The name of a layer. */
export interface TagFile {
  kind: 'tag';
  volume: string;
  tag: string;
  number: number;
  path: string;
}

/** `gone`: the disk is being removed. */
export interface LeftFile {
  kind: 'partial' | 'gone';
  volume: string;
  path: string;
}

export type VolumeFile = GoldenFile | DiskFile | LayerFile | TagFile | LeftFile;

/** A file with content. */
export type ContentFile = GoldenFile | DiskFile | LayerFile;

/** How the name of a clone's file encodes what the clone was made from. */
export function originId(file: GoldenFile | LayerFile): string {
  return file.kind === 'golden' ? file.volume : `${file.volume}-${file.number}`;
}

/**
 * Which file depends on which, of all files in a directory. A raw file depends on nothing. An overlay depends on the next older layer of its
 * disk, and without one on what the disk was cloned from.
 *
 * It is kept up to date (`add`, `delete`), so a look costs what the volume in question has, however many others there are. What a method
 * returned does not change any more.
 */
export class Catalog {
  private readonly names = new Set<string>();
  private readonly byVolume = new Map<string, readonly VolumeFile[]>();
  /** The volumes whose files name this origin. */
  private readonly byOrigin = new Map<string, Set<string>>();

  /** `parse` decodes a file's name. */
  constructor(
    names: Iterable<string>,
    private readonly parse: (name: string) => VolumeFile | undefined,
  ) {
    for (const name of names) this.add(name);
  }

  add(name: string): void {
    if (this.names.has(name)) return;
    const file = this.parse(name);
    if (!file) return;
    this.names.add(name);
    this.byVolume.set(file.volume, [...this.files(file.volume), file]);
    if (file.kind !== 'disk') return;
    const clones = this.byOrigin.get(file.origin) ?? new Set();
    this.byOrigin.set(file.origin, clones.add(file.volume));
  }

  delete(name: string): void {
    if (!this.names.delete(name)) return;
    const file = this.parse(name)!;
    const left = this.files(file.volume).filter(({ path }) => path !== file.path);
    if (left.length > 0) this.byVolume.set(file.volume, left);
    else this.byVolume.delete(file.volume);
    if (file.kind !== 'disk' || left.some((it) => it.kind === 'disk' && it.origin === file.origin)) return;
    const clones = this.byOrigin.get(file.origin);
    clones?.delete(file.volume);
    if (clones?.size === 0) this.byOrigin.delete(file.origin);
  }

  /** Has these names from now on, but for those in `changed`, which it knows better. */
  correct(names: readonly string[], changed: ReadonlySet<string>): void {
    const there = new Set(names);
    for (const name of this.names) if (!there.has(name) && !changed.has(name)) this.delete(name);
    for (const name of there) if (!changed.has(name)) this.add(name);
  }

  volumes(): string[] {
    return [...this.byVolume.keys()];
  }

  files(volume: string): readonly VolumeFile[] {
    return this.byVolume.get(volume) ?? [];
  }

  golden(volume: string): GoldenFile | undefined {
    return this.files(volume).find((file) => file.kind === 'golden');
  }

  disk(volume: string): DiskFile | undefined {
    const files = this.files(volume);
    if (files.some((file) => file.kind === 'gone')) return undefined;
    return newestFirst(files.filter((file) => file.kind === 'disk'))[0];
  }

  tags(volume: string): TagFile[] {
    return this.files(volume).filter((file) => file.kind === 'tag');
  }

  tagNames(volume: string): string[] {
    return this.tags(volume).map((file) => file.tag);
  }

  /** Newest first. The overlay of a layer that was made flat may still be there; the raw file has the same content. */
  layers(volume: string): LayerFile[] {
    const raw = this.files(volume).filter((file) => file.kind === 'layer');
    const overlays = newestFirst(this.files(volume).filter((file) => file.kind === 'disk')).slice(1);
    const frozen = overlays
      .filter(({ number }) => !raw.some((layer) => layer.number === number))
      .map(({ volume, number, format, path }): LayerFile => ({ kind: 'layer', volume, number, format, path }));
    return newestFirst([...raw, ...frozen]);
  }

  tagged(volume: string, tag: string): LayerFile | undefined {
    const number = this.tags(volume).find((file) => file.tag === tag)?.number;
    return this.layers(volume).find((layer) => layer.number === number);
  }

  /** A number that no layer of the disk has, greater than those of all layers below. */
  nextNumber(disk: DiskFile): number {
    return Math.max(disk.number, this.layers(disk.volume)[0]?.number ?? 0) + 1;
  }

  /** The file and everything that it depends on, itself first. Error `storage.unavailable`: one of them is gone. */
  chain(file: ContentFile): ContentFile[] {
    return file.kind === 'golden' || file.format === 'raw' ? [file] : [file, ...this.chain(this.below(file))];
  }

  /** The disks of others that still need this golden volume or layer. */
  users(origin: string): DiskFile[] {
    return [...(this.byOrigin.get(origin) ?? [])]
      .flatMap((volume) => this.disk(volume) ?? [])
      .filter((disk) => disk.origin === origin && this.needsOrigin(disk));
  }

  /** Whether the disk depends on its own files only. */
  isFlat(disk: DiskFile): boolean {
    return disk.format === 'raw' ? disk.origin === 'flat' : this.chain(disk).every((it) => it.volume === disk.volume);
  }

  /** Layers that neither the disk nor a tag needs, and everything that an interrupted removal left of a disk. */
  garbage(volume: string): VolumeFile[] {
    const disk = this.disk(volume);
    const tops = disk ? [disk, ...this.tags(volume).flatMap((tag) => this.tagged(volume, tag.tag) ?? [])] : [];
    const needed = new Set(tops.flatMap((file) => this.chain(file)).map((file) => file.path));
    const garbage = this.files(volume).filter(({ kind, path }) =>
      kind === 'tag' ? !disk : kind !== 'golden' && kind !== 'partial' && !needed.has(path),
    );
    // The mark that the rest is garbage comes last.
    return garbage.sort((a, b) => Number(a.kind === 'gone') - Number(b.kind === 'gone'));
  }

  /**
   * A reflinked disk could do without its origin, but counts as needing it until it is made flat, as in all backends. An overlay needs it as
   * long as its oldest layer is an overlay; the disk or a tag may depend on that layer.
   */
  private needsOrigin(disk: DiskFile): boolean {
    return disk.origin !== 'flat' && (disk.format === 'raw' || this.layers(disk.volume).at(-1)?.format !== 'raw');
  }

  private below(file: DiskFile | LayerFile): ContentFile {
    const older = this.layers(file.volume).find((layer) => layer.number < file.number);
    if (older) return older;
    const origin = this.disk(file.volume)?.origin ?? '';
    const [volume = '', number] = origin.split('-');
    const found =
      number === undefined ? this.golden(volume) : this.layers(volume).find((layer) => layer.number === Number(number));
    if (found) return found;
    throw new StorageError(
      'storage.unavailable',
      `The file below ${file.path} (${origin}) is gone. Restore it from a backup.`,
    );
  }
}

function newestFirst<File extends { number: number }>(files: File[]): File[] {
  return files.sort((a, b) => b.number - a.number);
}
