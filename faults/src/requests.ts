import type { Operation, OperationKind } from '@m2/contracts';
import { expect } from 'vitest';
import type { Step } from '@m2/saga';
import { sagas } from '../../services/api-gateway/src/sagas/index.js';
import { happened, once } from './events.js';
import { type ApiCalls, apiCallsOf, tidy } from './api-calls.js';
import { ended, type TestInstallation, succeeded, untilStep } from './installation.js';
import { expectNothing } from './observed-state.js';

type Kind = Exclude<OperationKind, 'provision' | 'deprovision'>;

export interface Request {
  /** Prepares what the request needs; everything is named after `name`. */
  before?(installation: TestInstallation, api: ApiCalls, name: string): Promise<void>;
  ask(api: ApiCalls, name: string): Promise<Operation>;
  /** Checks the result when the operation has succeeded. */
  check(api: ApiCalls, name: string): Promise<void>;
  /** The events that it causes, each once. */
  told: Record<string, number>;
}

/** A request that fails, so that what was done is undone. */
export interface Refusal extends Pick<Request, 'before' | 'ask'> {
  /** Restores what `before` changed. */
  after?(installation: TestInstallation): Promise<void>;
  /** The operation is cancelled as soon as it waits. */
  cancel?: boolean;
  code: string;
}

const disk = async (installation: TestInstallation, api: ApiCalls, name: string) =>
  void (await succeeded(installation, await api.createDisk(name)));
const tagged = async (installation: TestInstallation, api: ApiCalls, name: string) => {
  await disk(installation, api, name);
  await succeeded(installation, await api.tag(name, 'then'));
};
const trashed = async (installation: TestInstallation, api: ApiCalls, name: string) => {
  await disk(installation, api, name);
  await succeeded(installation, await api.trash(name));
};
const larger = 128 * 2 ** 20;
const gone = (work: Promise<unknown>, code: string) => expect(work).rejects.toMatchObject({ code });

/** At least one for each kind of operation on images and disks: a new kind does not compile without one. */
export const requests: Record<Kind, Request[]> = {
  'image.import': [
    {
      ask: (api, name) => api.importImage(name),
      check: async (api, name) => expect(await api.image(name)).toMatchObject({ state: 'ready' }),
      told: once('image.image.imported'),
    },
    {
      before: disk,
      ask: (api, name) => api.importImage(name, { kind: 'disk', disk: name }),
      check: async (api, name) => {
        expect(await api.image(name)).toMatchObject({ state: 'ready' });
        expect(await api.tags(name)).toEqual([]);
      },
      told: once('image.image.imported'),
    },
  ],
  'image.update': [
    {
      ask: (api, name) => api.updateImage('golden', { metadata: { defaultUser: name } }),
      check: async (api, name) => expect((await api.image('golden')).metadata.defaultUser).toBe(name),
      told: once('image.image.updated'),
    },
  ],
  // File storage has no foreign volumes: see `refusals`, and ceph-steps.faults.ts.
  'image.export': [],
  'image.delete': [
    {
      before: async (installation, api, name) => void (await succeeded(installation, await api.importImage(name))),
      ask: (api, name) => api.deleteImage(name),
      check: (api, name) => gone(api.image(name), 'image.not_found'),
      told: once('image.image.deleted'),
    },
  ],
  'disk.create': [
    {
      ask: (api, name) => api.createDisk(name),
      check: async (api, name) => expect(await api.disk(name)).toMatchObject({ state: 'ready', depth: 1 }),
      told: once('image.disk.created'),
    },
    {
      before: disk,
      ask: (api, name) => api.createDisk(`${name}-fork`, { disk: name }),
      check: async (api, name) => expect(await api.disk(`${name}-fork`)).toMatchObject({ state: 'ready', depth: 2 }),
      told: once('image.disk.created'),
    },
  ],
  'disk.update': [
    {
      before: disk,
      ask: (api, name) => api.updateDisk(name, { name: `${name}-larger`, sizeBytes: larger }),
      check: async (api, name) => expect(await api.disk(`${name}-larger`)).toMatchObject({ sizeBytes: larger }),
      told: once('image.disk.updated'),
    },
  ],
  'disk.tag': [
    {
      before: disk,
      ask: (api, name) => api.tag(name, 'then'),
      check: async (api, name) => expect(await api.tags(name)).toEqual(['then']),
      told: once('image.disk.tagged'),
    },
  ],
  'disk.untag': [
    {
      before: tagged,
      ask: (api, name) => api.untag(name, 'then'),
      check: async (api, name) => expect(await api.tags(name)).toEqual([]),
      told: once('image.disk.untagged'),
    },
  ],
  'disk.rollback': [
    {
      before: tagged,
      ask: (api, name) => api.rollback(name, 'then'),
      check: async (api, name) => {
        expect(await api.disk(name)).toMatchObject({ state: 'ready', depth: 2 });
        expect(await api.tags(name)).toEqual(['then']);
      },
      told: once('image.disk.rolled-back'),
    },
  ],
  'disk.flatten': [
    {
      before: disk,
      ask: (api, name) => api.flatten(name),
      check: async (api, name) => expect(await api.disk(name)).toMatchObject({ depth: 0, image: null }),
      told: once('image.disk.flattened'),
    },
  ],
  'disk.delete': [
    {
      before: disk,
      ask: (api, name) => api.trash(name),
      check: (api, name) => gone(api.disk(name), 'disk.not_found'),
      told: once('image.disk.trashed'),
    },
    {
      before: tagged,
      ask: (api, name) => api.purge(name),
      check: (api, name) => gone(api.disk(name), 'disk.not_found'),
      told: once('image.disk.deleted'),
    },
  ],
  'disk.restore': [
    {
      before: trashed,
      ask: (api, name) => api.restore(name),
      check: async (api, name) => expect(await api.disk(name)).toMatchObject({ state: 'ready' }),
      told: once('image.disk.restored'),
    },
  ],
};

const limit = ({ client, stage: { project } }: TestInstallation, disks: number | null) =>
  client.call('quotaSet', { params: { project }, body: { bytes: null, disks, images: null } });

/** One for each kind that has something to undo. */
const refusals: Partial<Record<Kind, Refusal>> = {
  'image.import': {
    ask: (api, name) => api.importImage(name, { kind: 'upload' }),
    cancel: true,
    code: 'operation.cancelled',
  },
  'image.export': {
    ask: (api, name) => api.exportImage('golden', `${foreign}/${name}`),
    code: 'storage.unsupported',
  },
  'disk.create': {
    before: async (installation) => void (await limit(installation, 0)),
    ask: (api, name) => api.createDisk(name),
    after: async (installation) => void (await limit(installation, null)),
    code: 'quota.exceeded',
  },
  'disk.tag': {
    before: tagged,
    ask: (api, name) => api.tag(name, 'once-more'),
    code: 'disk.too_many_tags',
  },
};

/**
 * On a file system with reflinks a disk is flat at once, and no cancel comes in time. The undo is one row that says so: tags.it.ts of image-svc
 * has what becomes of it.
 */
const notUndoneHere = new Set<Kind>(['disk.flatten']);

const foreign = 'vms';
/** The settings of image-svc that these need. */
export const requestsEnvironment = { M2_FOREIGN_VOLUMES: foreign, M2_MAX_TAGS: '1' };

const stepsOf = (kind: Kind) => sagas[kind].steps as Step<unknown>[];
const kinds = Object.keys(requests) as Kind[];

/** Every step that every request takes. */
export const requestCases = kinds.flatMap((kind) =>
  requests[kind].flatMap((request, n) =>
    stepsOf(kind).map((step) => ({ kind, request, step, name: n === 0 ? step.name : `${step.name} (${n + 1})` })),
  ),
);

/** Every step that is undone, and its forward direction where no request above covers it. */
export const refusalCases = kinds.flatMap((kind) =>
  stepsOf(kind)
    .filter(({ undo }) => undo && !notUndoneHere.has(kind))
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
 * Carries out a request while the process dies that `arm` has chosen. Expects that it succeeds, that each event comes once, and that
 * nothing else is left (`clean`).
 */
export async function expectCarriedOut(
  installation: TestInstallation,
  request: Request,
  arm: () => void,
  clean: () => Promise<void> = () => expectNothing(installation),
): Promise<void> {
  const [api, name] = [apiCallsOf(installation), newName()];
  await request.before?.(installation, api, name);
  const before = await happened(installation);
  arm();
  await succeeded(installation, await request.ask(api, name));
  await request.check(api, name);
  expect(difference(await happened(installation), before)).toEqual(request.told);
  await tidy(installation);
  await clean();
}

/** The same with a request that fails: expects its error, and that nothing has changed. */
export async function expectRefused(
  installation: TestInstallation,
  { step, refusal }: RefusalCase,
  arm: () => void,
): Promise<void> {
  const [api, name] = [apiCallsOf(installation), newName()];
  await refusal.before?.(installation, api, name);
  const before = await happened(installation);
  arm();
  const operation = await refusal.ask(api, name);
  if (refusal.cancel) {
    await untilStep(installation, operation, step.name, 'running');
    await installation.client.call('operationCancel', { params: { id: operation.id } });
  }
  expect(await ended(installation, operation)).toMatchObject({ error: { code: refusal.code }, attention: null });
  await refusal.after?.(installation);
  const {
    'image.image.import-failed': _,
    'image.image.deleted': __,
    ...told
  } = difference(await happened(installation), before);
  expect(told).toEqual({});
  await tidy(installation);
  await expectNothing(installation);
}
type RefusalCase = (typeof refusalCases)[number];

const difference = (now: Record<string, number>, before: Record<string, number>) =>
  Object.fromEntries(
    Object.entries(now).flatMap(([type, n]) => (n === before[type] ? [] : [[type, n - (before[type] ?? 0)]])),
  );
