import { type Image, M2Error, type Project, type routes } from '@m2/contracts';
import type { Kit } from '@m2/service-kit';
import type { Actor } from '../access/actor.js';
import type { Input } from '../door/serve.js';
import type { Projects } from '../projects/projects.js';
import type { ImageUpdateInput } from '../sagas/image-update.js';
import { refuseTakenImage } from './find-image.js';

type Changes = Input<typeof routes.imageUpdate>['body'];

/** What a request changes of an image, checked against what its actor may. Throws M2Error `auth.forbidden`, `project.not_found`, `image.exists`. */
export async function resolveChanges(
  { kit, projects }: { kit: Kit; projects: Projects },
  { name, visibility, sharedWith, metadata, project: target }: Changes,
  image: Image,
  project: Project,
  actor: Actor,
): Promise<ImageUpdateInput> {
  if (visibility === 'public' && image.visibility !== 'public')
    mustOperate(actor, 'Only an operator or admin makes an image public, since it is then used by every project');
  if (target !== undefined)
    mustOperate(actor, 'Only an operator or admin moves an image, since another project takes it over');
  // In whose name others see an image is for its project to say, and so is with whom it is shared: by any name that there is.
  const shared = sharedWith && (await Promise.all(sharedWith.map((one) => projects.named(one))));
  const to = target === undefined ? undefined : await projects.visible(target, actor);
  const isMoved = to !== undefined && to.id !== project.id;
  const isRenamed = name !== undefined && name !== image.name;
  if (isRenamed || isMoved) await refuseTakenImage(kit, to ?? project, name ?? image.name);
  return {
    image: image.id,
    ...(isRenamed && { name }),
    ...(visibility !== undefined && { visibility }),
    ...(shared && { sharedWith: [...new Set(shared.map(({ id }) => id))] }),
    ...(metadata && { metadata }),
    ...(isMoved && { toProject: to.id }),
  };
}

function mustOperate({ role }: Actor, sentence: string): void {
  if (role !== 'operator' && role !== 'admin') throw new M2Error('auth.forbidden', sentence);
}
