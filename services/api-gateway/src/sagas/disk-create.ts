import { diskCreate, diskDelete } from '@m2/contracts';
import { defineSaga, send } from '../operations/saga.js';

export interface DiskCreateInput {
  disk: string;
  name: string;
  image: string;
  sizeBytes?: number | undefined;
}

/** A clone that waits for a node. */
export const diskCreateSaga = defineSaga<DiskCreateInput>({
  kind: 'disk.create',
  forwardOnly: false,
  steps: [
    {
      name: 'clone-disk',
      after: [],
      do: ({ input: { disk, name, image, sizeBytes }, project }) =>
        send(diskCreate, { diskId: disk, project, name, image, ...(sizeBytes !== undefined && { sizeBytes }) }),
      undo: ({ input, project }) => send(diskDelete, { diskId: input.disk, project }),
      deadlineMs: 120_000,
    },
  ],
});
