import { diskCreate, diskDelete, type InputOf } from '@m2/contracts';
import { defineSaga, send } from '@m2/saga';
import { skips } from './skips.js';

export interface DiskCreateInput {
  disk: string;
  name: string;
  from: InputOf<typeof diskCreate>['from'];
  sizeBytes?: number | undefined;
}

/** A clone that waits for a node. */
export const diskCreateSaga = defineSaga<DiskCreateInput>({
  kind: 'disk.create',
  version: 1,
  forwardOnly: false,
  steps: [
    {
      name: 'clone-disk',
      after: [],
      do: ({ input: { disk, name, from, sizeBytes }, project }) =>
        send(diskCreate, { diskId: disk, project, name, from, ...(sizeBytes !== undefined && { sizeBytes }) }),
      undo: ({ input, project }) => send(diskDelete, { diskId: input.disk, project, purge: true }),
      skip: skips.deleteDisk,
      deadlineMs: 120_000,
    },
  ],
});
