import type { Operation, OperationKind } from '@m2/contracts';
import { expect } from 'vitest';
import type { Step } from '@m2/saga';
import { sagas } from '../../services/api-gateway/src/sagas/index.js';
import { happened, once } from './events.js';
import { type Hands, handsOf, tidy } from './hands.js';
import { ended, type Scene, succeeded, untilStep } from './scene.js';
import { expectNothing } from './things.js';

type Kind = Exclude<OperationKind, 'provision' | 'deprovision'>;

export interface Request {
  /** Does what has to be done before; everything is named after `name`. */
  before?(scene: Scene, hands: Hands, name: string): Promise<void>;
  ask(hands: Hands, name: string): Promise<Operation>;
  /** When it has ended as asked. */
  check(hands: Hands, name: string): Promise<void>;
  /** What those who read the events are told, each once. */
  told: Record<string, number>;
}

/** A request that cannot be met, so that what was done of it is undone. */
export interface Refusal extends Pick<Request, 'before' | 'ask'> {
  /** Afterwards all may be as it was for the next one. */
  after?(scene: Scene): Promise<void>;
  /** Asked for as soon as the operation waits. */
  cancel?: boolean;
  code: string;
}

const disk = async (scene: Scene, hands: Hands, name: string) =>
  void (await succeeded(scene, await hands.createDisk(name)));
const tagged = async (scene: Scene, hands: Hands, name: string) => {
  await disk(scene, hands, name);
  await succeeded(scene, await hands.tag(name, 'then'));
};
const trashed = async (scene: Scene, hands: Hands, name: string) => {
  await disk(scene, hands, name);
  await succeeded(scene, await hands.trash(name));
};
const larger = 128 * 2 ** 20;
const gone = (work: Promise<unknown>, code: string) => expect(work).rejects.toMatchObject({ code });

/** At least one for each kind of operation on images and disks: a new kind does not compile without one. */
export const requests: Record<Kind, Request[]> = {
  'image.import': [
    {
      ask: (hands, name) => hands.importImage(name),
      check: async (hands, name) => expect(await hands.image(name)).toMatchObject({ state: 'ready' }),
      told: once('image.image.imported'),
    },
    {
      before: disk,
      ask: (hands, name) => hands.importImage(name, { kind: 'disk', disk: name }),
      check: async (hands, name) => {
        expect(await hands.image(name)).toMatchObject({ state: 'ready' });
        expect(await hands.tags(name)).toEqual([]);
      },
      told: once('image.image.imported'),
    },
  ],
  'image.update': [
    {
      ask: (hands, name) => hands.updateImage('golden', { metadata: { defaultUser: name } }),
      check: async (hands, name) => expect((await hands.image('golden')).metadata.defaultUser).toBe(name),
      told: once('image.image.updated'),
    },
  ],
  // Files have no volumes of others: see `refusals`, and ceph.faults.ts.
  'image.export': [],
  'image.delete': [
    {
      before: async (scene, hands, name) => void (await succeeded(scene, await hands.importImage(name))),
      ask: (hands, name) => hands.deleteImage(name),
      check: (hands, name) => gone(hands.image(name), 'image.not_found'),
      told: once('image.image.deleted'),
    },
  ],
  'disk.create': [
    {
      ask: (hands, name) => hands.createDisk(name),
      check: async (hands, name) => expect(await hands.disk(name)).toMatchObject({ state: 'ready', depth: 1 }),
      told: once('image.disk.created'),
    },
    {
      before: disk,
      ask: (hands, name) => hands.createDisk(`${name}-fork`, { disk: name }),
      check: async (hands, name) =>
        expect(await hands.disk(`${name}-fork`)).toMatchObject({ state: 'ready', depth: 2 }),
      told: once('image.disk.created'),
    },
  ],
  'disk.update': [
    {
      before: disk,
      ask: (hands, name) => hands.updateDisk(name, { name: `${name}-larger`, sizeBytes: larger }),
      check: async (hands, name) => expect(await hands.disk(`${name}-larger`)).toMatchObject({ sizeBytes: larger }),
      told: once('image.disk.updated'),
    },
  ],
  'disk.tag': [
    {
      before: disk,
      ask: (hands, name) => hands.tag(name, 'then'),
      check: async (hands, name) => expect(await hands.tags(name)).toEqual(['then']),
      told: once('image.disk.tagged'),
    },
  ],
  'disk.untag': [
    {
      before: tagged,
      ask: (hands, name) => hands.untag(name, 'then'),
      check: async (hands, name) => expect(await hands.tags(name)).toEqual([]),
      told: once('image.disk.untagged'),
    },
  ],
  'disk.rollback': [
    {
      before: tagged,
      ask: (hands, name) => hands.rollback(name, 'then'),
      check: async (hands, name) => {
        expect(await hands.disk(name)).toMatchObject({ state: 'ready', depth: 2 });
        expect(await hands.tags(name)).toEqual(['then']);
      },
      told: once('image.disk.rolled-back'),
    },
  ],
  'disk.flatten': [
    {
      before: disk,
      ask: (hands, name) => hands.flatten(name),
      check: async (hands, name) => expect(await hands.disk(name)).toMatchObject({ depth: 0, image: null }),
      told: once('image.disk.flattened'),
    },
  ],
  'disk.delete': [
    {
      before: disk,
      ask: (hands, name) => hands.trash(name),
      check: (hands, name) => gone(hands.disk(name), 'disk.not_found'),
      told: once('image.disk.trashed'),
    },
    {
      before: tagged,
      ask: (hands, name) => hands.purge(name),
      check: (hands, name) => gone(hands.disk(name), 'disk.not_found'),
      told: once('image.disk.deleted'),
    },
  ],
  'disk.restore': [
    {
      before: trashed,
      ask: (hands, name) => hands.restore(name),
      check: async (hands, name) => expect(await hands.disk(name)).toMatchObject({ state: 'ready' }),
      told: once('image.disk.restored'),
    },
  ],
};

const limit = ({ client, stage: { project } }: Scene, disks: number | null) =>
  client.call('quotaSet', { params: { project }, body: { bytes: null, disks, images: null } });

/** One for each kind that has something to undo. */
const refusals: Partial<Record<Kind, Refusal>> = {
  'image.import': {
    ask: (hands, name) => hands.importImage(name, { kind: 'upload' }),
    cancel: true,
    code: 'operation.cancelled',
  },
  'image.export': {
    ask: (hands, name) => hands.exportImage('golden', `${foreign}/${name}`),
    code: 'storage.unsupported',
  },
  'disk.create': {
    before: async (scene) => void (await limit(scene, 0)),
    ask: (hands, name) => hands.createDisk(name),
    after: async (scene) => void (await limit(scene, null)),
    code: 'quota.exceeded',
  },
  'disk.tag': {
    before: tagged,
    ask: (hands, name) => hands.tag(name, 'once-more'),
    code: 'disk.too_many_tags',
  },
};

const foreign = 'vms';
/** What image-svc has to be told for these. */
export const requestsEnvironment = { M2_FOREIGN_VOLUMES: foreign, M2_MAX_TAGS: '1' };

const stepsOf = (kind: Kind) => sagas[kind].steps as Step<unknown>[];
const kinds = Object.keys(requests) as Kind[];

/** Every step that every request takes. */
export const requestCases = kinds.flatMap((kind) =>
  requests[kind].flatMap((request, n) =>
    stepsOf(kind).map((step) => ({ kind, request, step, name: n === 0 ? step.name : `${step.name} (${n + 1})` })),
  ),
);

/** Every step that is undone; and in the other direction too where nothing else takes it. */
export const refusalCases = kinds.flatMap((kind) =>
  stepsOf(kind)
    .filter(({ undo }) => undo)
    .flatMap((step) => {
      const refusal = refusals[kind];
      if (!refusal) throw new Error(`No request here makes ${kind} undo ${step.name}; add one`);
      const directions = requests[kind].length > 0 ? (['undo'] as const) : (['do', 'undo'] as const);
      return directions.map((direction) => ({ kind, refusal, step, direction, name: step.name }));
    }),
);

let count = 0;
const newName = () => `thing-${(count += 1)}`;

/**
 * Carries a request out although somebody dies, whom `arm` has marked for it: it ends as asked, is told once, and leaves nothing else,
 * which `clean` looks at.
 */
export async function expectCarriedOut(
  scene: Scene,
  request: Request,
  arm: () => void,
  clean: () => Promise<void> = () => expectNothing(scene),
): Promise<void> {
  const [hands, name] = [handsOf(scene), newName()];
  await request.before?.(scene, hands, name);
  const before = await happened(scene);
  arm();
  await succeeded(scene, await request.ask(hands, name));
  await request.check(hands, name);
  expect(difference(await happened(scene), before)).toEqual(request.told);
  await tidy(scene);
  await clean();
}

/** The same with a request that cannot be met: it ends with its error, and has changed nothing. */
export async function expectRefused(scene: Scene, { step, refusal }: RefusalCase, arm: () => void): Promise<void> {
  const [hands, name] = [handsOf(scene), newName()];
  await refusal.before?.(scene, hands, name);
  const before = await happened(scene);
  arm();
  const operation = await refusal.ask(hands, name);
  if (refusal.cancel) {
    await untilStep(scene, operation, step.name, 'running');
    await scene.client.call('operationCancel', { params: { id: operation.id } });
  }
  expect(await ended(scene, operation)).toMatchObject({ error: { code: refusal.code }, attention: null });
  await refusal.after?.(scene);
  const {
    'image.image.import-failed': _,
    'image.image.deleted': __,
    ...told
  } = difference(await happened(scene), before);
  expect(told).toEqual({});
  await tidy(scene);
  await expectNothing(scene);
}
type RefusalCase = (typeof refusalCases)[number];

const difference = (now: Record<string, number>, before: Record<string, number>) =>
  Object.fromEntries(
    Object.entries(now).flatMap(([type, n]) => (n === before[type] ? [] : [[type, n - (before[type] ?? 0)]])),
  );
