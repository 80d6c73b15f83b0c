import { diskTag, diskUntag } from '@m2/contracts';
import { defineSaga, send } from '@m2/saga';
import { skips } from './skips.js';

export interface DiskTagInput {
  tag: string;
  disk: string;
  name: string;
}

/** A tag that was made, or may have been, is forgotten again: it would count, and keep space, for nobody. */
export const diskTagSaga = defineSaga<DiskTagInput>({
  kind: 'disk.tag',
  version: 1,
  forwardOnly: false,
  steps: [
    {
      name: 'tag-disk',
      after: [],
      do: ({ input, project }) => send(diskTag, { tagId: input.tag, diskId: input.disk, project, name: input.name }),
      undo: ({ input, project }) => send(diskUntag, { tagId: input.tag, diskId: input.disk, project }),
      skip: skips.deleteTag,
      deadlineMs: 120_000,
    },
  ],
});
