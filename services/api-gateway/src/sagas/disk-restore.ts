import { diskRestore } from '@m2/contracts';
import { defineSaga, send } from '@m2/saga';

export interface DiskRestoreInput {
  disk: string;
  name?: string | undefined;
}

/** One step, and not undone when it is refused: the disk stays in the trash. */
export const diskRestoreSaga = defineSaga<DiskRestoreInput>({
  kind: 'disk.restore',
  version: 1,
  forwardOnly: false,
  steps: [
    {
      name: 'restore-disk',
      after: [],
      do: ({ input: { disk, name }, project }) =>
        send(diskRestore, { diskId: disk, project, ...(name !== undefined && { name }) }),
      deadlineMs: 120_000,
    },
  ],
});
