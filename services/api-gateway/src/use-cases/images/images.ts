import { imageList, imageShow, imageTransfer, imageTree, M2Error, useCases } from '@m2/contracts';
import { v7 as uuidv7 } from 'uuid';
import type { ImageDeleteInput } from '../../sagas/image-delete.js';
import type { ImageExportInput } from '../../sagas/image-export.js';
import type { ImageImportInput } from '../../sagas/image-import.js';
import { ask } from '../ask.js';
import { implement } from '../use-case.js';
import { ownImage, readyImage, refuseTakenImage } from './find-image.js';
import { resolveChanges } from './image-changes.js';
import { resolveSource } from './import-source.js';

export const listImages = implement(useCases.imageList, ({ kit }, { project }, page) =>
  ask(kit, imageList, { ...page, project: project.id }),
);

export const showImage = implement(useCases.imageShow, ({ kit }, { project }, { image }) =>
  ask(kit, imageShow, { project: project.id, image }),
);

export const showImageTree = implement(useCases.imageTree, ({ kit }, { project }, { image }) =>
  ask(kit, imageTree, { project: project.id, image }),
);

export const importImage = implement(useCases.imageImport, async (parts, request, given) => {
  const source = await resolveSource(parts, given.source, request.project, request.actor);
  await refuseTakenImage(parts.kit, request.project, given.name);
  const input: ImageImportInput = { ...given, source, imageId: uuidv7() };
  return parts.runner.begin(request, 'image.import', input, {
    image: input.imageId,
    ...(source.kind === 'disk' && { disk: source.disk }),
  });
});

export const updateImage = implement(useCases.imageUpdate, async (parts, request, { image: which, ...changes }) => {
  const image = await ownImage(parts.kit, request.project, which);
  const input = await resolveChanges(parts, changes, image, request.project, request.actor);
  const named = [...(input.toProject ? [input.toProject] : []), ...(input.sharedWith ?? [])];
  return parts.runner.begin(request, 'image.update', input, { image: image.id }, (sql) =>
    parts.projects.hold(sql, named),
  );
});

export const exportImage = implement(
  useCases.imageExport,
  async ({ kit, runner }, request, { image: which, volume }) => {
    const image = await readyImage(kit, request.project, which);
    const input: ImageExportInput = { exportId: uuidv7(), image: image.id, volume };
    return runner.begin(request, 'image.export', input, { image: image.id });
  },
);

export const deleteImage = implement(useCases.imageDelete, async ({ kit, runner }, request, { image: which }) => {
  const image = await ownImage(kit, request.project, which);
  const input: ImageDeleteInput = { image: image.id };
  return runner.begin(request, 'image.delete', input, { image: image.id });
});

export const openImageContent = implement(useCases.imageContent, async ({ kit }, { project }, { image, format }) => {
  const { id } = await readyImage(kit, project, image);
  return ask(kit, imageTransfer, { project: project.id, image: id, purpose: 'download', format });
});

export const openImageUpload = implement(useCases.imageUpload, async ({ kit }, { project }, { image: which }) => {
  const image = await ownImage(kit, project, which);
  if (image.state !== 'importing')
    throw new M2Error('image.not_waiting', `The image "${image.name}" is ${image.state}`);
  return ask(kit, imageTransfer, { project: project.id, image: image.id, purpose: 'upload' });
});
