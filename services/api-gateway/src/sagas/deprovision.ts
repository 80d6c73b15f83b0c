import {
  bootConfigDelete,
  diskDelete,
  diskDetach,
  exportDelete,
  networkDetach,
  nodeRelease,
  powerOff,
} from '@m2/contracts';
import { defineSaga, type SagaState, send } from '@m2/saga';
import { skips } from './skips.js';

export interface DeprovisionInput {
  provision: string;
  node: string;
  nic: string;
  network: string;
  disk: string;
  exportId: string;
  bootConfig: string;
  deleteDisk: boolean;
}

const minutes = 60_000;
const held = ({ input }: SagaState<DeprovisionInput>) => ({ nodeId: input.node, holder: input.provision });

/**
 * power off → observed off → boot config ∥ export → disk ∥ network → release. The disk is kept unless asked.
 *
 * Off comes first and is observed: whatever is taken from under a running node corrupts the disk that is to be kept. The node is
 * released last, so that nobody gets one that still reaches into our network. There is no way back, only on.
 */
export const deprovisionSaga = defineSaga<DeprovisionInput>({
  kind: 'deprovision',
  version: 1,
  forwardOnly: true,
  steps: [
    {
      name: 'power-off',
      after: [],
      do: (s) => send(powerOff, held(s)),
      skip: skips.powerOff,
      deadlineMs: 3 * minutes,
    },
    {
      name: 'disarm-boot',
      after: ['power-off'],
      do: ({ input, project }) => send(bootConfigDelete, { configId: input.bootConfig, project }),
      deadlineMs: minutes,
    },
    {
      name: 'remove-export',
      after: ['power-off'],
      do: ({ input, project, isSkipped }) =>
        send(exportDelete, { exportId: input.exportId, project, nodeSeenOff: !isSkipped('power-off') }),
      deadlineMs: minutes,
    },
    {
      name: 'detach-disk',
      after: ['remove-export'],
      do: ({ input, project }) => send(diskDetach, { diskId: input.disk, project, holder: input.provision }),
      deadlineMs: minutes,
    },
    {
      name: 'delete-disk',
      after: ['detach-disk'],
      when: (input) => input.deleteDisk,
      do: ({ input, project }) => send(diskDelete, { diskId: input.disk, project, purge: true }),
      skip: skips.deleteDisk,
      deadlineMs: 5 * minutes,
    },
    {
      name: 'detach-network',
      after: ['power-off'],
      do: (s) => send(networkDetach, { ...held(s), nic: s.input.nic, network: s.input.network }),
      skip: skips.detachNetwork,
      deadlineMs: minutes,
    },
    {
      name: 'release-node',
      // The disk is named twice: a step that is skipped keeps nobody waiting.
      after: ['disarm-boot', 'detach-disk', 'delete-disk', 'detach-network'],
      do: (s) => send(nodeRelease, held(s)),
      deadlineMs: minutes,
    },
  ],
  settle: async (sql, { input }, outcome) => {
    if (outcome === 'succeeded')
      await sql.query(
        `UPDATE provisions SET state = 'ended', ended_at = now() WHERE id = $1 AND state = 'deprovisioning'`,
        [input.provision],
      );
    // It may be deprovisioned again.
    else if (outcome === 'abandoned')
      await sql.query(`UPDATE provisions SET state = 'failed' WHERE id = $1 AND state = 'deprovisioning'`, [
        input.provision,
      ]);
  },
});
