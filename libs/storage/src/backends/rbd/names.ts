import type { ImageRef, SnapRef, SourceRef } from '@m2/rbd';
import { randomBytes } from 'node:crypto';
import { assertTag, assertVolumeName, StorageError } from '../../storage.port.js';
import type { DiskVolume, Origin, Readable } from '../../storage.port.js';

/** The one snapshot of a golden image, protected: what disks are cloned from. */
export const goldenSnap = 'golden';

/**
 * Where volumes are: golden images in the image pool's default namespace, disks in the disk pool, in a namespace with the project's name.
 * An image has the volume's name, or `partialName` while it is created.
 */
export class ImageLocations {
  constructor(
    readonly imagePool: string,
    readonly diskPool: string,
  ) {}

  golden(volume: string): ImageRef {
    return { pool: this.imagePool, image: volume };
  }

  disk({ project, name }: DiskVolume): ImageRef {
    return { pool: this.diskPool, namespace: project, image: name };
  }

  origin(origin: Origin): SnapRef {
    if ('golden' in origin) return { ...this.golden(origin.golden), snap: goldenSnap };
    return { ...this.disk(origin.disk), snap: origin.tag };
  }

  readable(readable: Readable): SourceRef {
    return 'golden' in readable || 'tag' in readable ? this.origin(readable) : this.disk(readable.disk);
  }

  /**
   * A volume that M2 does not own, `pool[/namespace]/image`, with `@snap` where that is allowed. Names of M2's own volumes are refused:
   * with one, a tenant could read what belongs to another. Error `storage.bad_name`.
   */
  foreign(name: string, options: { snap: boolean }): SourceRef {
    const part = '[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}';
    const formatRef = new RegExp(`^(${part})/(?:(${part})/)?(${part})${options.snap ? `(?:@(${part}))?` : ''}$`);
    const [, pool, namespace, image, snap] = formatRef.exec(name) ?? [];
    if (pool === undefined || image === undefined) {
      throw badForeign(name, `no volume's name. Use pool/image or pool/namespace/image`);
    }
    const ours = namespace === undefined ? pool === this.imagePool && volumeOf(image) : pool === this.diskPool;
    if (ours) throw badForeign(name, 'a place of volumes that M2 owns. Name them as images');
    return { pool, ...(namespace && { namespace }), image, ...(snap && { snap }) };
  }
}

/** The form that people write. */
export const formatRef = ({ pool, namespace, image, snap }: SourceRef): string =>
  [pool, namespace, image].filter(Boolean).join('/') + (snap === undefined ? '' : `@${snap}`);

/**
 * The name of an image that is being created. It is unique for each call: an interrupted call, or one that goes on after a long pause,
 * never touches what a later one creates.
 */
export const partialName = (image: string): string => `${image}.${randomBytes(4).toString('hex')}.partial`;

/** The volume that an image is, or will be; undefined when it is not one of ours. */
export function volumeOf(image: string): { volume: string; partial: boolean } | undefined {
  const volume = image.replace(/\.[0-9a-f]{8}\.partial$/, '');
  return passes(() => assertVolumeName(volume)) ? { volume, partial: volume !== image } : undefined;
}

export const isTag = (name: string): boolean => passes(() => assertTag(name));

function passes(check: () => void): boolean {
  try {
    check();
    return true;
  } catch {
    return false;
  }
}

/** Refuses what is not a volume name. Error `storage.bad_name`. */
export function assertDisk({ project, name }: DiskVolume): void {
  assertProject(project);
  assertVolumeName(name);
}

export function assertOrigin(origin: Origin): void {
  if ('golden' in origin) return assertVolumeName(origin.golden);
  assertDisk(origin.disk);
  assertTag(origin.tag);
}

export function assertReadable(readable: Readable): void {
  if ('golden' in readable || 'tag' in readable) assertOrigin(readable);
  else assertDisk(readable.disk);
}

/** The project becomes a namespace and a part of capabilities, where a comma or a blank would grant more. */
export function assertProject(project: string): void {
  if (!/^[0-9a-z][0-9a-z-]{0,62}$/.test(project)) {
    throw new StorageError('storage.bad_name', `${JSON.stringify(project)} is not a project's id. Use its UUID.`);
  }
}

function badForeign(name: string, what: string): StorageError {
  return new StorageError('storage.bad_name', `${JSON.stringify(name)} is ${what}.`);
}
