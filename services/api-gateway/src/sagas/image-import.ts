import { type Image, imageDelete, imageImport, imageShow, type InputOf } from '@m2/contracts';
import { defineSaga, send } from '../operations/saga.js';

export type ImageImportInput = Omit<InputOf<typeof imageImport>, 'project'>;

/** The service fetches, checks and stores on its own time; the operation watches. A failed import leaves no image behind. */
export const imageImportSaga = defineSaga<ImageImportInput>({
  kind: 'image.import',
  forwardOnly: false,
  steps: [
    {
      name: 'import-image',
      after: [],
      do: ({ input, project }) => send(imageImport, { ...input, project }),
      wait: {
        query: ({ input, project }) => send(imageShow, { project, image: input.imageId }),
        look: (reply) => {
          const image = reply as Image;
          if (image.state === 'ready') return { done: image };
          if (image.state === 'failed')
            return { failed: (image.error ?? { code: 'internal', detail: 'The import failed' }) as never };
          const { progress } = image;
          return { progress: progress && { done: progress.done, total: progress.total, text: progress.phase } };
        },
        everyMs: 500,
        timeout: { code: 'request.deadline', detail: 'The import took more than a day' },
      },
      undo: ({ input, project }) => send(imageDelete, { imageId: input.imageId, project }),
      deadlineMs: 24 * 3_600_000,
    },
  ],
});
