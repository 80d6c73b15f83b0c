import { type Image, imageList, imageShow, M2Error, type Project } from '@m2/contracts';
import type { Kit } from '@m2/service-kit';
import { ask } from '../ask.js';

/** An image that the project may use and that is complete. Throws M2Error `image.not_found`, `image.not_ready`. */
export async function readyImage(kit: Kit, project: Project, which: string): Promise<Image> {
  const image = await ask(kit, imageShow, { project: project.id, image: which });
  if (image.state !== 'ready') throw new M2Error('image.not_ready', `The image "${image.name}" is ${image.state}`);
  return image;
}

/** An image that belongs to the project: what others let it use, it may not change. Throws M2Error `image.not_found`, `auth.forbidden`. */
export async function ownImage(kit: Kit, project: Project, which: string): Promise<Image> {
  const image = await ask(kit, imageShow, { project: project.id, image: which });
  if (image.project !== project.id)
    throw new M2Error(
      'auth.forbidden',
      `The image "${image.name}" belongs to another project; copy it to have your own`,
    );
  return image;
}

/** Throws M2Error `image.exists`. The service looks once more; this is the early answer. */
export async function refuseTakenImage(kit: Kit, project: Project, name: string): Promise<void> {
  const { items } = await ask(kit, imageList, { project: project.id, name, own: true, limit: 1 });
  if (items.length > 0) throw new M2Error('image.exists', `There is an image "${name}" already`);
}
