import { type Disk, diskFlatten, diskFlattenCancel, diskShow } from '@m2/contracts';
import { defineSaga, type Saga, send, shownProgress, type Step, whatFailed } from '@m2/saga';
import { skips } from './skips.js';

export interface DiskFlattenInput {
  disk: string;
}

const givenUp = {
  code: 'disk.not_ready',
  detail: 'The disk was deleted or rolled back, or its flattening was cancelled, before it was flat',
};

const flatten: Step<DiskFlattenInput> = {
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
};

/**
 * The service copies on its own time; the operation watches. One that is cancelled stops the copying. The disk is then whole and still a clone,
 * and what was copied need not be copied again.
 */
export const diskFlattenSaga = defineSaga<DiskFlattenInput>({
  kind: 'disk.flatten',
  version: 2,
  forwardOnly: false,
  steps: [
    {
      ...flatten,
      undo: ({ input, project }) => send(diskFlattenCancel, { diskId: input.disk, project }),
      skip: skips.cancelFlatten,
    },
  ],
});

/** It could not be cancelled. */
export const diskFlattenSaga1: Saga<DiskFlattenInput> = { ...diskFlattenSaga, version: 1, steps: [flatten] };
