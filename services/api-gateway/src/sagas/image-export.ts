import { type ImageExport, imageExportCancel, imageExportShow, imageExportStart } from '@m2/contracts';
import { defineSaga, send, shownProgress, whatFailed } from '@m2/saga';
import { skips } from './skips.js';

export interface ImageExportInput {
  exportId: string;
  image: string;
  volume: string;
}

/** The service writes the volume on its own time; the operation watches. One that fails or is cancelled leaves no volume behind. */
export const imageExportSaga = defineSaga<ImageExportInput>({
  kind: 'image.export',
  version: 1,
  forwardOnly: false,
  steps: [
    {
      name: 'export-image',
      after: [],
      do: ({ input, project }) => send(imageExportStart, { ...input, project }),
      wait: {
        query: ({ input, project }) => send(imageExportShow, { exportId: input.exportId, project }),
        look: (reply) => {
          const { state, error, progress } = reply as ImageExport;
          if (state === 'done') return { done: reply };
          return state === 'failed' ? whatFailed(error) : { progress: shownProgress(progress) };
        },
        everyMs: 500,
        timeout: { code: 'request.deadline', detail: 'The export took more than a day' },
      },
      undo: ({ input, project }) => send(imageExportCancel, { exportId: input.exportId, project }),
      skip: skips.cancelExport,
      deadlineMs: 24 * 3_600_000,
    },
  ],
});
