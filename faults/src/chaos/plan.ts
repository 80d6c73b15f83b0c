import { Random } from './random.js';

/**
 * What is asked for, and how often. Things have a few names, so that requests meet: a disk that is cloned, forked, grown, provisioned and
 * deleted at the same moment.
 */
const requestWeights = {
  'provision-new': 12,
  'provision-old': 7,
  'deprovision-keep': 9,
  'deprovision-delete': 8,
  'create-disk': 12,
  'fork-disk': 8,
  'grow-disk': 8,
  'rename-disk': 2,
  'flatten-disk': 3,
  'tag-disk': 7,
  'untag-disk': 4,
  'roll-back-disk': 6,
  'trash-disk': 5,
  'purge-disk': 7,
  'restore-disk': 4,
  'import-image': 4,
  'copy-image': 2,
  'image-of-disk': 3,
  'describe-image': 2,
  'delete-image': 5,
  'move-image': 4,
  cancel: 4,
  twice: 3,
};
export type RequestKind = keyof typeof requestWeights;

/** What breaks. `kill-at` kills a service in the middle of its next command, before or after that is on record. */
const faultWeights = {
  kill: 6,
  'kill-at': 8,
  'kill-gateway-at': 4,
  pause: 4,
  'postgres-immediate': 2,
  'postgres-kill': 1,
  'nats-kill': 2,
  'nats-pause': 1,
  'supervisor-kill': 2,
  'disk-full': 2,
  'tgtd-kill': 2,
  'storage-daemon-kill': 1,
  'bmc-silent': 2,
  'bmc-ignores': 2,
  'bmc-lies': 1,
};
export type FaultKind = keyof typeof faultWeights;

export const services = ['gateway', 'image', 'iscsi', 'boot', 'hil'] as const;
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
}

export type Action = { atMs: number } & (
  | { request: RequestKind; args: Args }
  | { fault: FaultKind; service: (typeof services)[number]; node: number; phase: string; forMs: number }
);

const betweenRequestsMs = [10, 250] as const;
const betweenFaultsMs = [1_000, 5_000] as const;
/** Up to longer than a lease (15 s): what was paused comes back when others have taken over. */
const pauseMs = [500, 22_000] as const;
const commandPhases = ['begin', 'acted', 'committed', 'end'];
const stepPhases = ['intent', 'answered', 'committed'];

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
      },
    };
}

function* faults(random: Random, untilMs: number): Generator<Action> {
  for (let atMs = random.between(...betweenFaultsMs); atMs < untilMs; atMs += random.between(...betweenFaultsMs)) {
    const fault = random.weighted(faultWeights);
    yield {
      atMs,
      fault,
      service: random.pick(services),
      node: random.below(nodeCount),
      phase: random.pick(fault === 'kill-gateway-at' ? stepPhases : commandPhases),
      forMs: Math.round(random.between(...pauseMs)),
    };
  }
}

/** One line for people. */
export function told(action: Action): string {
  const at = `${(action.atMs / 1_000).toFixed(2).padStart(7)} s`;
  if ('request' in action) {
    const { node, disk, other, image, tag, choice, door } = action.args;
    return `${at}  ${action.request} (node-${node + 1} ${disk} ${other} ${image} ${tag} ${choice} door ${door})`;
  }
  const { fault, service, node, phase, forMs } = action;
  return `${at}  FAULT ${fault} (${service} node-${node + 1} ${phase} ${forMs} ms)`;
}
