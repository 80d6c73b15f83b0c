import { diskDelete } from '@m2/contracts';
import { defineSaga, send } from '@m2/saga';

export interface DiskDeleteInput {
  disk: string;
  /** At once and for good, and not into the trash. */
  purge: boolean;
}

/** One step, and not undone when it is refused: a disk that is in use stays as it is. */
export const diskDeleteSaga = defineSaga<DiskDeleteInput>({
  kind: 'disk.delete',
  version: 1,
  forwardOnly: false,
  steps: [
    {
      name: 'delete-disk',
      after: [],
      do: ({ input, project }) => send(diskDelete, { diskId: input.disk, project, purge: input.purge }),
      deadlineMs: 300_000,
    },
  ],
});
