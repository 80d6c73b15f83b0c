import {
  fields,
  type Image,
  imageList,
  imageShow,
  type InputOfUseCase,
  M2Error,
  type Project,
  type StoredSource,
  type useCases,
} from '@m2/contracts';
import type { Kit } from '@m2/service-kit';
import type { Actor } from '../../access/actor.js';
import { ask } from '../ask.js';
import { readyDisk, tagOf } from '../disks/find-disk.js';
import type { Parts } from '../use-case.js';
import { readyImage } from './find-image.js';

type Source = InputOfUseCase<typeof useCases.imageImport>['source'];
type Finders = Pick<Parts, 'kit' | 'projects'>;

/** Finds what a new image is to be made of, as far as the actor and the project may use it. Throws M2Error `…not_found`, `…not_ready`. */
export async function resolveSource(
  parts: Finders,
  source: Source,
  project: Project,
  actor: Actor,
): Promise<StoredSource> {
  if (source.kind === 'image') {
    const image = await imageToCopy(parts, source, project, actor);
    return { kind: 'image', image: image.id, project: image.project };
  }
  if (source.kind !== 'disk') return source;
  const disk = await readyDisk(parts.kit, project, source.disk);
  const tag = source.tag === undefined ? undefined : await tagOf(parts.kit, disk, source.tag);
  return { kind: 'disk', disk: disk.id, ...(tag && { tag: tag.id }) };
}

/** An image of another project needs a token that may read that project, or has to be shared with the project that the copy is for. */
async function imageToCopy(
  { kit, projects }: Finders,
  source: Source & { kind: 'image' },
  project: Project,
  actor: Actor,
): Promise<Image> {
  if (source.project === undefined) return readyImage(kit, project, source.image);
  const owner = await projects.named(source.project);
  if (actor.project === null || actor.project === owner.id) return readyImage(kit, owner, source.image);
  const shared = await sharedBy(kit, owner, project, source.image);
  // Whoever is let use nothing of a project does not learn that it exists.
  if (!shared) throw new M2Error('project.not_found', `There is no project "${source.project}"`);
  return readyImage(kit, project, shared.id);
}

/** An image that one project lets another use. Others may have given theirs the same name. */
async function sharedBy(kit: Kit, owner: Project, project: Project, which: string): Promise<Image | undefined> {
  const images = fields.isId(which)
    ? await ask(kit, imageShow, { project: project.id, image: which }).then(
        (image) => [image],
        (error: unknown) => {
          if (M2Error.from(error).code === 'image.not_found') return [];
          throw error;
        },
      )
    : (await ask(kit, imageList, { project: project.id, name: which, limit: 500 })).items;
  return images.find((image) => image.project === owner.id);
}
