import { nodeMarkBroken } from '@m2/contracts';
import { type SagaState, send, type Skip } from '@m2/saga';

/** A node that nobody saw come to rest is given to nobody until a person has looked at it. */
const markBroken = ({ input }: SagaState<{ node: string }>, { by, reason }: Skip) =>
  send(nodeMarkBroken, { nodeId: input.node, by, reason });

const marked = 'The node is marked broken: nobody gets it before m2 node mark-repaired.';

/**
 * What a person is told before a step is left out. What would leave a node able to write to a disk has no entry here: an export is always cut, and
 * its credentials with it, before its disk is free.
 */
export const skips = {
  powerOff: {
    leaves: 'The node may still be on.',
    unsafe: 'It may write to its disk.',
    guard: `It can until its export is cut, which is done next and makes its credentials void. ${marked}`,
    instead: markBroken,
  },
  detachNetwork: {
    leaves: 'The nic may still be in the network.',
    unsafe: 'The node may reach what is in that network.',
    guard: marked,
    instead: markBroken,
  },
  deleteDisk: { leaves: 'The disk stays, and counts against the quota.', unsafe: null },
  deleteTag: { leaves: 'The tag stays, and counts against the limit of tags.', unsafe: null },
  deleteImage: { leaves: 'What was imported of the image stays, and counts against the quota.', unsafe: null },
  cancelFlatten: { leaves: 'The disk goes on becoming flat, in the background.', unsafe: null },
  cancelExport: { leaves: 'The volume may be written on, and stays.', unsafe: null },
};
