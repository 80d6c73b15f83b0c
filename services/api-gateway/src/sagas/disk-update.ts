import { diskUpdate } from '@m2/contracts';
import { defineSaga, send } from '@m2/saga';

export interface DiskUpdateInput {
  disk: string;
  name?: string | undefined;
  sizeBytes?: number | undefined;
}

/** One step, and not undone when it is refused: the disk keeps its name and its size. */
export const diskUpdateSaga = defineSaga<DiskUpdateInput>({
  kind: 'disk.update',
  version: 1,
  forwardOnly: false,
  steps: [
    {
      name: 'update-disk',
      after: [],
      do: ({ input: { disk, name, sizeBytes }, project }) =>
        send(diskUpdate, {
          diskId: disk,
          project,
          ...(name !== undefined && { name }),
          ...(sizeBytes !== undefined && { sizeBytes }),
        }),
      deadlineMs: 120_000,
    },
  ],
});
