import { join } from 'node:path';
import { assertVolumeName, StorageError } from '../../storage.port.js';
import type { DiskVolume, Origin, VolumeInfo } from '../../storage.port.js';
import { noTag, notFound } from '../volume-errors.js';
import type { Dataset, Source } from './dataset.js';
import { diskOf } from './disk-state.js';
import type { DiskState } from './disk-state.js';
import type { ZfsCommand } from './zfs-command.js';

export const goldenSnapshot = 'golden';

/** Snapshots that are not tags, made for one call or one reader. Tags have no hyphen. */
export const flatSnapshot = 'm2-flat';
export const readerSnapshot = 'm2-read-';

/**
 * The datasets of a backend below `root`:
 *
 * - `golden/<volume>`, complete when it has its snapshot with a size: `zfs snapshot -o` makes both in one commit
 * - `disks/<project>/<volume>`, a clone, and after `ensureFlat` `disks/<project>/<volume>.flat` (see DiskState)
 * - `readers/<uuid>`, a clone of what is being read: snapshots cannot be mounted everywhere
 * - `health`, for probes
 *
 * There is no other record. The file may be shorter than its volume: the rest reads as zeros, and is added before anybody writes.
 */
export class Datasets {
  constructor(
    private readonly zfs: ZfsCommand,
    readonly root: string,
    private readonly mountpoint: string,
  ) {}

  get containers(): string[] {
    return ['golden', 'disks', 'readers'].map((name) => `${this.root}/${name}`);
  }

  get health(): string {
    return `${this.root}/health`;
  }

  golden(golden: string): string {
    return `${this.root}/golden/${golden}`;
  }

  /** Error `storage.bad_name`. */
  project(project: string): string {
    if (!/^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$/.test(project)) {
      throw new StorageError('storage.bad_name', `${JSON.stringify(project)} is not a project's id. Use its UUID.`);
    }
    return `${this.root}/disks/${project}`;
  }

  /** Error `storage.bad_name`. */
  clone({ project, name }: DiskVolume): string {
    assertVolumeName(name);
    return `${this.project(project)}/${name}`;
  }

  reader(id: string): string {
    return `${this.root}/readers/${id}`;
  }

  directory(path: string): string {
    return join(this.mountpoint, path.slice(this.root.length));
  }

  file(path: string): string {
    return join(this.directory(path), 'disk.raw');
  }

  /** Those of `paths` that exist. */
  async look(...paths: string[]): Promise<Map<string, Dataset>> {
    const found = new Map<string, Dataset>();
    const lines = await this.zfs.list('name,origin,mounted,m2:size,m2:attached', ...paths);
    for (const [name = '', origin, mounted, size, attached] of lines.map((line) => line.split('\t'))) {
      const [path = '', snapshot] = name.split('@');
      const sizeBytes = size === '-' ? undefined : Number(size);
      // A file system comes before its snapshots.
      if (snapshot !== undefined) found.get(path)?.snapshots.set(snapshot, sizeBytes);
      else
        found.set(path, {
          path,
          origin: origin === '-' ? undefined : origin,
          mounted: mounted === 'yes',
          sizeBytes,
          attached: attached === 'on',
          snapshots: new Map(),
        });
    }
    return found;
  }

  async disk(disk: DiskVolume): Promise<DiskState> {
    const path = this.clone(disk);
    return diskOf(path, await this.look(path, `${path}.flat`));
  }

  /** Error `storage.not_found`. */
  async source(origin: Origin): Promise<Source> {
    if ('golden' in origin) {
      const path = this.golden(origin.golden);
      const sizeBytes = (await this.look(path)).get(path)?.snapshots.get(goldenSnapshot);
      return sizeBytes === undefined ? notFound(origin.golden) : { snapshot: `${path}@${goldenSnapshot}`, sizeBytes };
    }
    const disk = await this.disk(origin.disk);
    if (!disk.current) notFound(origin.disk.name);
    return disk.tags.get(origin.tag) ?? noTag(origin.disk.name, origin.tag);
  }

  /** All clones, of disks and of readers. */
  async clones(): Promise<{ path: string; origin: string }[]> {
    return [...(await this.look(this.root)).values()].flatMap(({ path, origin }) => (origin ? [{ path, origin }] : []));
  }

  /** Every volume, partial ones included. */
  async infos(): Promise<VolumeInfo[]> {
    const infos: VolumeInfo[] = [];
    const all = await this.look(`${this.root}/golden`, `${this.root}/disks`);
    const disks = new Set<string>();
    for (const dataset of all.values()) {
      const [place, first = '', second] = dataset.path.slice(this.root.length + 1).split('/');
      if (place === 'golden' && first !== '') {
        const sizeBytes = dataset.snapshots.get(goldenSnapshot);
        const kind = sizeBytes === undefined ? 'partial' : 'golden';
        infos.push({ name: first, project: null, kind, sizeBytes: sizeBytes ?? 0, tags: [] });
      }
      if (place === 'disks' && second !== undefined) disks.add(dataset.path.replace(/\.flat$/, ''));
    }
    for (const path of disks) {
      const { current, tags } = diskOf(path, all);
      const [project = '', name = ''] = path.split('/').slice(-2);
      const kind = current ? 'disk' : 'partial';
      infos.push({ name, project, kind, sizeBytes: current?.sizeBytes ?? 0, tags: [...tags.keys()] });
    }
    return infos;
  }
}
