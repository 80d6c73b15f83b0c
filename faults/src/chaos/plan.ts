import type { ServiceName } from '@m2/contracts';
import { Random } from './random.js';

/**
 * What is asked for, and how often. Things have a few names, so that requests meet: a disk that is cloned, forked, grown, provisioned and
 * deleted at the same moment.
 */
const requestWeights = {
  'provision-new': 16,
  'provision-old': 9,
  'deprovision-keep': 6,
  'deprovision-delete': 5,
  'create-disk': 12,
  'fork-disk': 8,
  'grow-disk': 8,
  'rename-disk': 2,
  'flatten-disk': 3,
  'tag-disk': 9,
  'untag-disk': 4,
  'roll-back-disk': 6,
  'trash-disk': 5,
  'purge-disk': 5,
  'restore-disk': 4,
  'import-image': 4,
  'copy-image': 2,
  'image-of-disk': 3,
  'describe-image': 2,
  'delete-image': 5,
  'move-image': 4,
  cancel: 2,
  twice: 3,
};
export type RequestKind = keyof typeof requestWeights;

/**
 * What breaks, and how often in one round of all; after a round, which takes some 80 seconds, another one begins in another order. `kill-at` kills
 * a service in the middle of its next command; `pause-at` has it stand still there.
 */
export const faultRound = {
  kill: 3,
  'kill-at': 4,
  'kill-gateway-at': 2,
  pause: 2,
  'pause-at': 2,
  'pause-gateway-at': 3,
  'postgres-immediate': 1,
  'postgres-kill': 1,
  'nats-kill': 1,
  'nats-pause': 1,
  'supervisor-kill': 1,
  'disk-full': 1,
  'tgtd-kill': 2,
  'storage-daemon-kill': 1,
  'bmc-silent': 1,
  'bmc-ignores': 1,
  'bmc-lies': 1,
};
export type FaultKind = keyof typeof faultRound;

export const services = ['gateway', 'image', 'iscsi', 'boot', 'hil'] as const;
/** Those that run twice: one process goes on with what another had that stands still. */
export const twice: readonly ServiceName[] = ['gateway', 'hil'];
export const nodeCount = 6;
export const names = { disk: 10, image: 4, tag: 2 };

interface Args {
  node: number;
  disk: string;
  /** Another disk, or the same. */
  other: string;
  image: string;
  tag: string;
  /** For whatever else is to be chosen. */
  choice: number;
  /** 0 or 1: which of two gateways is asked. */
  door: number;
  /** 0 or 1: in which of two projects. */
  project: number;
}

export type Action = { atMs: number } & (
  | { request: RequestKind; args: Args }
  | {
      fault: FaultKind;
      service: (typeof services)[number];
      node: number;
      phase: string;
      withinMs: number;
      forMs: number;
    }
);

const betweenRequestsMs = [10, 250] as const;
const betweenFaultsMs = [1_000, 5_000] as const;
/** Up to longer than a lease (15 s): what was paused comes back when others have taken over. */
const pauseMs = [500, 22_000] as const;
/** Who stands still in the middle of something is to find that another one has gone on with it. */
const pauseAtMs = [17_000, 22_000] as const;
/** `within`: at any moment while the handler acts. */
const commandPhases = ['begin', 'within', 'within', 'acted', 'committed', 'end'];
const stepPhases = ['intent', 'answered', 'committed'];
/** What a handler takes, but for the slow ones. */
const withinMs = [1, 60] as const;

/** The same seed and length give the same plan, whatever becomes of it. */
export function planOf(seed: number, minutes: number): Action[] {
  const untilMs = minutes * 60_000;
  // Each has numbers of its own: a longer plan begins as a shorter one does.
  return [...requests(new Random(seed * 2 + 1), untilMs), ...faults(new Random(seed * 2), untilMs)].sort(
    (a, b) => a.atMs - b.atMs,
  );
}

function* requests(random: Random, untilMs: number): Generator<Action> {
  const name = (of: keyof typeof names) => `${of}-${random.below(names[of])}`;
  for (let atMs = 0; atMs < untilMs; atMs += random.between(...betweenRequestsMs))
    yield {
      atMs,
      request: random.weighted(requestWeights),
      args: {
        node: random.below(nodeCount),
        disk: name('disk'),
        other: name('disk'),
        image: name('image'),
        tag: name('tag'),
        choice: random.below(1_000),
        door: random.below(2),
        project: random.below(4) === 0 ? 1 : 0,
      },
    };
}

function* faults(random: Random, untilMs: number): Generator<Action> {
  let round: FaultKind[] = [];
  for (let atMs = random.between(...betweenFaultsMs); atMs < untilMs; atMs += random.between(...betweenFaultsMs)) {
    if (round.length === 0) round = random.round(faultRound);
    const fault = round.pop()!;
    yield {
      atMs,
      fault,
      service: random.pick(services),
      node: random.below(nodeCount),
      phase: random.pick(fault.includes('gateway') ? stepPhases : commandPhases),
      withinMs: Math.round(random.between(...withinMs)),
      forMs: Math.round(fault.startsWith('pause-') ? random.between(...pauseAtMs) : random.between(...pauseMs)),
    };
  }
}

/** One line for people. */
export function told(action: Action): string {
  const at = `${(action.atMs / 1_000).toFixed(2).padStart(7)} s`;
  if ('request' in action) {
    const { node, disk, other, image, tag, choice, door, project } = action.args;
    return `${at}  ${action.request} (node-${node + 1} ${disk} ${other} ${image} ${tag} ${choice} door ${door} project ${project})`;
  }
  const { fault, service, node, phase, withinMs: after, forMs } = action;
  return `${at}  FAULT ${fault} (${service} node-${node + 1} ${phase}${phase === 'within' ? ` ${after} ms` : ''}, for ${forMs} ms)`;
}
