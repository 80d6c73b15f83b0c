import { assertTag, assertVolumeName } from '../../storage.port.js';
import type { Origin, Readable } from '../../storage.port.js';
import type { Catalog, ContentFile, GoldenFile, LayerFile } from './catalog.js';
import { ChainReader } from './chain-reader.js';
import { layout } from './disk-layers.js';
import { attached, notFound, noTag } from '../volume-errors.js';
import type { Locks } from '@m2/locks';
import type { VolumeFiles } from './volume-files.js';

/** Refuses what is not a volume name. Error `storage.bad_name`. */
export function assertOrigin(origin: Origin): void {
  if ('golden' in origin) return assertVolumeName(origin.golden);
  assertVolumeName(origin.disk.name);
  assertTag(origin.tag);
}

/** The file of an origin. Error `storage.not_found`. */
export function originFile(catalog: Catalog, origin: Origin): GoldenFile | LayerFile {
  if ('golden' in origin) return catalog.golden(origin.golden) ?? notFound(origin.golden);
  const { name } = origin.disk;
  return catalog.tagged(name, origin.tag) ?? (catalog.disk(name) ? noTag(name, origin.tag) : notFound(name));
}

/** Opens volumes for reading. */
export class VolumeReaders {
  constructor(
    private readonly files: VolumeFiles,
    private readonly locks: Locks,
    private readonly isAttached: (disk: string) => boolean,
  ) {}

  async open(readable: Readable): Promise<ChainReader> {
    if ('golden' in readable || 'tag' in readable) {
      assertOrigin(readable);
      return this.opened((catalog) => originFile(catalog, readable));
    }
    const { name } = readable.disk;
    assertVolumeName(name);
    if (this.isAttached(name)) throw attached(name);
    return this.opened((catalog) => catalog.disk(name) ?? notFound(name));
  }

  /** A layer that exists, with or without a tag. */
  openLayer({ path, volume }: LayerFile): Promise<ChainReader> {
    return this.opened((catalog) => catalog.layers(volume).find((it) => it.path === path) ?? notFound(volume));
  }

  private opened(find: (catalog: Catalog) => ContentFile): Promise<ChainReader> {
    return this.locks.shared(layout, async () => {
      const catalog = await this.files.read();
      const file = find(catalog);
      return ChainReader.open(catalog.chain(file), (tag) =>
        this.opened((later) => later.tagged(file.volume, tag) ?? noTag(file.volume, tag)),
      );
    });
  }
}
