import { diskRollback } from '@m2/contracts';
import { defineSaga, send } from '@m2/saga';

export interface DiskRollbackInput {
  disk: string;
  tag: string;
}

/** One step without a way back: what was written since the tag is gone. A refusal leaves the disk as it is. */
export const diskRollbackSaga = defineSaga<DiskRollbackInput>({
  kind: 'disk.rollback',
  version: 1,
  forwardOnly: false,
  steps: [
    {
      name: 'roll-back-disk',
      after: [],
      do: ({ input, project }) => send(diskRollback, { diskId: input.disk, project, tag: input.tag }),
      deadlineMs: 120_000,
    },
  ],
});
