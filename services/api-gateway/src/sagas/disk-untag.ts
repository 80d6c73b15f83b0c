import { diskUntag } from '@m2/contracts';
import { defineSaga, send } from '@m2/saga';

export interface DiskUntagInput {
  tag: string;
  disk: string;
}

/** One step, and not undone when it is refused: a tag that disks depend on stays as it is. */
export const diskUntagSaga = defineSaga<DiskUntagInput>({
  kind: 'disk.untag',
  version: 1,
  forwardOnly: false,
  steps: [
    {
      name: 'untag-disk',
      after: [],
      do: ({ input, project }) => send(diskUntag, { tagId: input.tag, diskId: input.disk, project }),
      deadlineMs: 120_000,
    },
  ],
});
