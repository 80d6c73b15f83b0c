import type { Image, InputOfUseCase, Project, useCases } from '@m2/contracts';
import { type Actor, demand } from '../../access/actor.js';
import type { ImageUpdateInput } from '../../sagas/image-update.js';
import type { Parts } from '../use-case.js';
import { refuseTakenImage } from './find-image.js';

type Changes = Omit<InputOfUseCase<typeof useCases.imageUpdate>, 'image'>;

/** What a request changes of an image, checked against what its actor may. Throws M2Error `auth.forbidden`, `project.not_found`, `image.exists`. */
export async function resolveChanges(
  { kit, projects }: Pick<Parts, 'kit' | 'projects'>,
  { name, visibility, sharedWith, metadata, project: target }: Changes,
  image: Image,
  project: Project,
  actor: Actor,
): Promise<ImageUpdateInput> {
  if (visibility === 'public' && image.visibility !== 'public')
    demand(
      actor,
      'image.publish',
      'Only an operator or admin makes an image public, since it is then used by every project',
    );
  if (target !== undefined)
    demand(actor, 'image.move', 'Only an operator or admin moves an image, since another project takes it over');
  // In whose name others see an image is for its project to say, and so is with whom it is shared: by any name that there is.
  const shared = sharedWith && (await Promise.all(sharedWith.map((one) => projects.named(one))));
  const to = target === undefined ? undefined : await projects.visible(target, actor.project);
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
