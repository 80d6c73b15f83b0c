import { imageUpdate, type InputOf } from '@m2/contracts';
import { defineSaga, send } from '@m2/saga';

export type ImageUpdateInput = Omit<InputOf<typeof imageUpdate>, 'project' | 'imageId'> & { image: string };

/** One step, and not undone when it is refused: the image stays as it is. */
export const imageUpdateSaga = defineSaga<ImageUpdateInput>({
  kind: 'image.update',
  version: 1,
  forwardOnly: false,
  steps: [
    {
      name: 'update-image',
      after: [],
      do: ({ input: { image, ...changes }, project }) => send(imageUpdate, { ...changes, imageId: image, project }),
      deadlineMs: 120_000,
    },
  ],
});
