import { type Disk, diskFlatten, diskShow } from '@m2/contracts';
import { defineSaga, send, shownProgress, whatFailed } from '@m2/saga';

export interface DiskFlattenInput {
  disk: string;
}

const givenUp = { code: 'disk.not_ready', detail: 'The disk was deleted, or rolled back, before it was flat' };

/**
 * The service copies on its own time; the operation watches. There is nothing to undo: a disk that was made flat in part still reads as
 * before, and what was copied need not be copied again.
 */
export const diskFlattenSaga = defineSaga<DiskFlattenInput>({
  kind: 'disk.flatten',
  version: 1,
  forwardOnly: false,
  steps: [
    {
      name: 'flatten-disk',
      after: [],
      do: ({ input, project }) => send(diskFlatten, { diskId: input.disk, project }),
      wait: {
        query: ({ input, project }) => send(diskShow, { project, disk: input.disk }),
        look: (reply) => {
          const disk = reply as Disk;
          if (disk.flattening === null) return disk.depth === 0 ? { done: disk } : whatFailed(givenUp);
          const { error, progress } = disk.flattening;
          return error ? whatFailed(error) : { progress: shownProgress(progress) };
        },
        everyMs: 500,
        timeout: { code: 'request.deadline', detail: 'Making the disk flat took more than a day' },
      },
      deadlineMs: 24 * 3_600_000,
    },
  ],
});
