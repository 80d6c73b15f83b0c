import { imageDelete } from '@m2/contracts';
import { defineSaga, send } from '@m2/saga';

export interface ImageDeleteInput {
  image: string;
}

/** One step, and not undone when it is refused: an image that is in use stays as it is. */
export const imageDeleteSaga = defineSaga<ImageDeleteInput>({
  kind: 'image.delete',
  version: 1,
  forwardOnly: false,
  steps: [
    {
      name: 'delete-image',
      after: [],
      do: ({ input, project }) => send(imageDelete, { imageId: input.image, project }),
      deadlineMs: 300_000,
    },
  ],
});
