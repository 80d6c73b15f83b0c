import {
  bootConfigCreate,
  bootConfigDelete,
  bootConfigShow,
  diskAttach,
  diskCreate,
  diskDelete,
  diskDetach,
  exportCreate,
  exportDelete,
  networkAttach,
  networkDetach,
  nodeRelease,
  nodeReserve,
  powerBoot,
  powerOff,
  type BootConfig,
} from '@m2/contracts';
import { defineSaga, type SagaState, send } from '@m2/saga';
import { skips } from './skips.js';

export interface ProvisionInput {
  provision: string;
  node: string;
  nodeName: string;
  nic: string;
  mac: string;
  network: string;
  disk: string;
  diskName: string;
  /** Present: the disk is cloned from it. Absent: the disk waits already. */
  image: string | null;
  exportId: string;
  bootConfig: string;
  initiator: string;
  waitFor: 'ready' | 'booted';
  bootDeadlineMs: number;
}

type State = SagaState<ProvisionInput>;
const second = 1_000;

const claim = ({ input, project }: State) => ({ diskId: input.disk, project, holder: input.provision });
const nic = ({ input }: State) => ({
  nodeId: input.node,
  holder: input.provision,
  nic: input.nic,
  network: input.network,
});
const held = ({ input }: State) => ({ nodeId: input.node, holder: input.provision });

/**
 * reserve node ∥ (clone disk → attach → export) → network → boot config → power on → wait.
 *
 * Storage and network do not wait for each other. Power is last: a node that is on before its boot configuration is armed finds nothing
 * to boot. On the way back power is first for the same reason: a disk is not taken from under a running node.
 */
export const provisionSaga = defineSaga<ProvisionInput>({
  kind: 'provision',
  version: 1,
  forwardOnly: false,
  steps: [
    {
      name: 'reserve-node',
      after: [],
      do: (s) => send(nodeReserve, { ...held(s), project: s.project }),
      undo: (s) => send(nodeRelease, held(s)),
      deadlineMs: 30 * second,
    },
    {
      name: 'clone-disk',
      after: [],
      when: (input) => input.image !== null,
      do: ({ input, project }) =>
        send(diskCreate, {
          diskId: input.disk,
          project,
          name: input.diskName,
          from: { kind: 'image', image: input.image as string },
        }),
      undo: ({ input, project }) => send(diskDelete, { diskId: input.disk, project, purge: true }),
      skip: skips.deleteDisk,
      deadlineMs: 120 * second,
    },
    {
      name: 'attach-disk',
      after: ['clone-disk'],
      do: (s) => send(diskAttach, claim(s)),
      undo: (s) => send(diskDetach, claim(s)),
      deadlineMs: 60 * second,
    },
    {
      name: 'export-disk',
      after: ['attach-disk'],
      do: (s) => {
        const { disk, backing } = s.reply(diskAttach, 'attach-disk');
        const { input, project } = s;
        return send(exportCreate, {
          exportId: input.exportId,
          project,
          disk: input.disk,
          volume: disk.volume,
          backing,
          initiator: input.initiator,
        });
      },
      undo: ({ input, project, isSkipped }) =>
        send(exportDelete, { exportId: input.exportId, project, nodeSeenOff: !isSkipped('power-on') }),
      deadlineMs: 60 * second,
    },
    {
      name: 'attach-network',
      after: ['reserve-node'],
      do: (s) => send(networkAttach, nic(s)),
      undo: (s) => send(networkDetach, nic(s)),
      skip: skips.detachNetwork,
      deadlineMs: 60 * second,
    },
    {
      name: 'arm-boot',
      after: ['export-disk', 'attach-network'],
      do: ({ input, project }) =>
        send(bootConfigCreate, {
          configId: input.bootConfig,
          project,
          provision: input.provision,
          node: input.node,
          nodeName: input.nodeName,
          mac: input.mac,
          exportId: input.exportId,
          initiator: input.initiator,
        }),
      undo: ({ input, project }) => send(bootConfigDelete, { configId: input.bootConfig, project }),
      deadlineMs: 30 * second,
    },
    {
      name: 'power-on',
      after: ['arm-boot'],
      do: (s) => send(powerBoot, held(s)),
      undo: (s) => send(powerOff, held(s)),
      skip: skips.powerOff,
      deadlineMs: 120 * second,
    },
    {
      name: 'wait-for-boot',
      after: ['power-on'],
      when: (input) => input.waitFor === 'booted',
      wait: {
        query: ({ input, project }) => send(bootConfigShow, { project, configId: input.bootConfig }),
        look: (reply) => {
          const config = reply as BootConfig;
          if (config.state === 'booted') return { done: config };
          const text = config.state === 'armed' ? 'waiting for the firmware' : 'the firmware has its boot script';
          return { progress: { done: config.state === 'armed' ? 0 : 1, total: 2, text } };
        },
        everyMs: 2 * second,
        timeout: { code: 'boot.timeout', detail: 'The node was powered on and did not phone home' },
      },
      deadlineMs: (input) => input.bootDeadlineMs,
    },
  ],
  settle: async (sql, { input, reply }, outcome) => {
    if (outcome === 'succeeded')
      await sql.query(`UPDATE provisions SET state = $2, report = $3 WHERE id = $1 AND state = 'provisioning'`, [
        input.provision,
        input.waitFor === 'booted' ? 'booted' : 'ready',
        input.waitFor === 'booted' ? JSON.stringify(reply(bootConfigShow, 'wait-for-boot').report) : null,
      ]);
    else if (outcome === 'failed' || outcome === 'cancelled')
      await sql.query(
        `UPDATE provisions SET state = 'failed', ended_at = now() WHERE id = $1 AND state = 'provisioning'`,
        [input.provision],
      );
    // It goes on holding what was not taken back: deprovisioning it is the way to end it.
    else if (outcome === 'abandoned')
      await sql.query(`UPDATE provisions SET state = 'failed' WHERE id = $1 AND state = 'provisioning'`, [
        input.provision,
      ]);
  },
});
