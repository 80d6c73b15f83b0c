import {
  type Disk,
  diskList,
  diskShow,
  diskTags,
  diskUsers,
  fields,
  M2Error,
  type Project,
  type Tag,
} from '@m2/contracts';
import type { Kit } from '@m2/service-kit';
import { ask } from '../ask.js';

/** A disk of the project that can be worked with. Throws M2Error `disk.not_found`, `disk.not_ready`. */
export async function readyDisk(kit: Kit, project: Project, which: string): Promise<Disk> {
  const disk = await ask(kit, diskShow, { project: project.id, disk: which });
  if (disk.state !== 'ready') throw new M2Error('disk.not_ready', `The disk "${disk.name}" is ${disk.state}`);
  return disk;
}

/** A disk of the project, or one in its trash. Throws M2Error `disk.not_found`. */
export async function anyDisk(kit: Kit, project: Project, which: string): Promise<Disk> {
  try {
    return await ask(kit, diskShow, { project: project.id, disk: which });
  } catch (error) {
    if (fields.isId(which) || M2Error.from(error).code !== 'disk.not_found') throw error;
    return trashedDisk(kit, project, which);
  }
}

/** A disk in the trash. Disks there may share a name: then its identifier is needed. Throws M2Error `disk.not_found`. */
export async function trashedDisk(kit: Kit, project: Project, which: string): Promise<Disk> {
  const scope = { project: project.id };
  if (fields.isId(which)) {
    const disk = await ask(kit, diskShow, { ...scope, disk: which });
    if (disk.state === 'trashed') return disk;
    throw new M2Error('disk.not_ready', `The disk "${disk.name}" is not in the trash, but ${disk.state}`);
  }
  const { items } = await ask(kit, diskList, { ...scope, name: which, trashed: true });
  const [disk, another] = items;
  if (!disk) throw new M2Error('disk.not_found', `There is no disk "${which}" in the trash`);
  if (!another) return disk;
  const each = items.map(({ id, trashedAt }) => `${id} (deleted ${trashedAt})`).join(', ');
  throw new M2Error('request.invalid', `path.disk: several disks "${which}" are in the trash; name one of ${each}`);
}

/** Throws M2Error `disk.in_use`. */
export function refuseHeld(disk: Disk): void {
  if (disk.holder) throw new M2Error('disk.in_use', `The disk "${disk.name}" is used by provision ${disk.holder}`);
}

/**
 * Refuses to delete a disk from which something was made. The service looks once more, so one that is away does not keep anybody waiting here.
 * Throws M2Error `tag.in_use`.
 */
export async function refuseUsedDisk(
  kit: Kit,
  project: string,
  { id, name }: Pick<Disk, 'id' | 'name'>,
): Promise<void> {
  const { items } = await ask(kit, diskUsers, { project, disk: id }).catch((error: unknown) => {
    const { code, retry } = M2Error.from(error);
    // One that is gone is fine, too.
    if (retry === 'absent' || retry === 'transient' || code === 'disk.not_found') return { items: [] };
    throw error;
  });
  if (items.length > 0) throw new M2Error('tag.in_use', `Made from tags of the disk "${name}": ${items.join('; ')}`);
}

/** Throws M2Error `disk.exists`. The service looks once more; this is the early answer. */
export async function refuseTakenDisk(kit: Kit, project: Project, name: string): Promise<void> {
  const { items } = await ask(kit, diskList, { project: project.id, name, limit: 1 });
  if (items.length > 0) throw new M2Error('disk.exists', `There is a disk "${name}" already`);
}

/** A tag of a disk, by its name or identifier. Throws M2Error `tag.not_found`. */
export async function tagOf(kit: Kit, disk: Disk, which: string): Promise<Tag> {
  const tag = fields.isId(which)
    ? await tagById(kit, disk, which)
    : (await tagsOf(kit, disk, { name: which })).items[0];
  if (!tag) throw new M2Error('tag.not_found', `The disk "${disk.name}" has no tag "${which}"`);
  return tag;
}

/** Page by page: each fork of a disk has a tag of its own. */
async function tagById(kit: Kit, disk: Disk, id: string): Promise<Tag | undefined> {
  for (let cursor: string | undefined = ''; cursor !== undefined;) {
    const { items, next }: Awaited<ReturnType<typeof tagsOf>> = await tagsOf(kit, disk, { cursor });
    const tag = items.find((one) => one.id === id);
    if (tag) return tag;
    cursor = next;
  }
  return undefined;
}

const tagsOf = (kit: Kit, { id: disk, project }: Disk, which: { name: string } | { cursor: string }) =>
  ask(kit, diskTags, { project, disk, limit: 500, ...which });
