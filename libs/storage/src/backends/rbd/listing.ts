import type { ImageRef, RbdClient } from '@m2/rbd';
import type { DiskVolume, VolumeInfo } from '../../storage.port.js';
import { tagsOf } from './clones.js';
import { undefinedIfMissing } from './errors.js';
import { isProtected } from './goldens.js';
import { volumeOf } from './names.js';
import type { ImageLocations } from './names.js';

/** Images opened at a time. Each takes a thread of the client's, which other calls need, too. */
const atOnce = 16;

interface Found {
  ref: ImageRef;
  disk: DiskVolume;
  partial: boolean;
}

/** All volumes of this installation, each once: as partial only when there is no complete one. */
export async function listVolumes(rbd: RbdClient, locations: ImageLocations): Promise<VolumeInfo[]> {
  const namespaces = await rbd.namespaceList(locations.diskPool);
  const images = await Promise.all([
    imagesIn(rbd, locations.imagePool, undefined),
    ...namespaces.map((namespace) => imagesIn(rbd, locations.diskPool, namespace)),
  ]);
  const infos = await inTurns(images.flat(), (found) => describe(rbd, found));
  const volumes = new Map<string, VolumeInfo>();
  for (const info of infos) {
    const key = `${info.project ?? ''}/${info.name}`;
    if (info.kind !== 'partial' || !volumes.has(key)) volumes.set(key, info);
  }
  return [...volumes.values()];
}

async function imagesIn(rbd: RbdClient, pool: string, namespace: string | undefined): Promise<Found[]> {
  const images = await rbd.list(pool, namespace);
  // librbd lists what it has begun to remove. That is in the trash, and no volume any more.
  const trashed = new Set((await rbd.trashList(pool, namespace)).map(({ id }) => id));
  return images.flatMap(({ name: image, id }) => {
    const ours = volumeOf(image);
    if (!ours || trashed.has(id)) return [];
    const ref = { pool, ...(namespace !== undefined && { namespace }), image };
    return [{ ref, disk: { project: namespace ?? '', name: ours.volume }, partial: ours.partial }];
  });
}

async function describe(rbd: RbdClient, { ref, disk, partial }: Found): Promise<VolumeInfo[]> {
  const { name } = disk;
  const project = ref.namespace ?? null;
  const info = await undefinedIfMissing(rbd.info(ref));
  if (info) {
    const isGolden = project === null && isProtected(info);
    const kind = partial || (project === null && !isGolden) ? 'partial' : isGolden ? 'golden' : 'disk';
    return [{ name, project, kind, sizeBytes: info.sizeBytes, tags: kind === 'disk' ? tagsOf(info) : [] }];
  }
  // Either it was removed since the list was read, or its creation or removal was interrupted: then the list still has it.
  const isThere = (await rbd.namesLike(ref.pool, ref.namespace, ref.image)).includes(ref.image);
  return isThere ? [{ name, project, kind: 'partial', sizeBytes: 0, tags: [] }] : [];
}

/** In any order. */
async function inTurns<T, R>(items: T[], work: (item: T) => Promise<R[]>): Promise<R[]> {
  const results: R[] = [];
  const next = items.values();
  const worker = async () => {
    for (const item of next) results.push(...(await work(item)));
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return results;
}
