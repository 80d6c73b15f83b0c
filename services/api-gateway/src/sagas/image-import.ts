import { type Image, imageDelete, imageImport, imageShow, type InputOf } from '@m2/contracts';
import { defineSaga, send, shownProgress, whatFailed } from '@m2/saga';
import { skips } from './skips.js';

export type ImageImportInput = Omit<InputOf<typeof imageImport>, 'project'>;

/**
 * The service fetches, copies or takes in an upload, checks and stores, all on its own time; the operation watches. An import that fails or
 * is cancelled leaves no image behind.
 */
export const imageImportSaga = defineSaga<ImageImportInput>({
  kind: 'image.import',
  version: 1,
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
          return image.state === 'failed' ? whatFailed(image.error) : { progress: shownProgress(image.progress) };
        },
        everyMs: 500,
        timeout: { code: 'request.deadline', detail: 'The import took more than a day' },
      },
      undo: ({ input, project }) => send(imageDelete, { imageId: input.imageId, project }),
      skip: skips.deleteImage,
      // A client whose upload broke off may come back tomorrow morning.
      deadlineMs: 24 * 3_600_000,
    },
  ],
});
