import { ApiError, type M2Client } from '@m2/cli';
import type { Operation } from '@m2/contracts';
import { randomUUID } from 'node:crypto';
import type { Contents } from './contents.js';
import { type Action, names, type RequestKind } from './plan.js';

type Args = Extract<Action, { request: unknown }>['args'];
/** What requests are about. `doors`: the clients of all gateways. `projects`: two, whose things have the same names. */
export interface Scene {
  doors: M2Client[];
  projects: string[];
  contents: Contents;
}
/** `project` is the one that is asked for. */
type Ask = (client: M2Client, args: Args, project: string, scene: Scene) => Promise<unknown>;
/** How a failure begins that is none of a fault that was made. */
const twins = 'two copies of one request';

const MiB = 2 ** 20;
const nodeOf = ({ node }: Args) => `node-${node + 1}`;

async function deprovision(client: M2Client, args: Args, project: string, fate: 'keep' | 'delete') {
  const params = { project };
  const { items } = await client.list('provisionList', { params });
  const found = items.find(({ nodeName }) => nodeName === nodeOf(args));
  if (!found) return undefined;
  return client.call('provisionDelete', { params: { ...params, id: found.id }, query: { disk: fate } });
}

const importing =
  (source: (args: Args, scene: Scene) => object): Ask =>
  (client, args, project, scene) =>
    client.call('imageImport', {
      params: { project },
      body: { name: args.image, source: source(args, scene) as never },
    });

const asks: Record<RequestKind, Ask> = {
  'provision-new': (client, args, project) =>
    client.call('provisionCreate', {
      params: { project },
      body: { node: nodeOf(args), image: 'golden', diskName: args.disk, waitFor: 'ready' },
    }),
  'provision-old': (client, args, project) =>
    client.call('provisionCreate', {
      params: { project },
      body: { node: nodeOf(args), disk: args.disk, waitFor: 'ready' },
    }),
  'deprovision-keep': (client, args, project) => deprovision(client, args, project, 'keep'),
  'deprovision-delete': (client, args, project) => deprovision(client, args, project, 'delete'),
  'create-disk': (client, args, project) =>
    client.call('diskCreate', {
      params: { project },
      body: { name: args.disk, image: args.choice % 2 ? 'golden' : args.image },
    }),
  'fork-disk': (client, args, project) =>
    client.call('diskCreate', {
      params: { project },
      body: { name: args.disk, disk: args.other, ...(args.choice % 2 && { tag: args.tag }) },
    }),
  'grow-disk': (client, args, project) =>
    client.call('diskUpdate', {
      params: { project, disk: args.disk },
      body: { sizeBytes: 128 * MiB + args.choice * MiB, ...(args.choice % 5 === 0 && { name: args.other }) },
    }),
  'rename-disk': (client, args, project) =>
    client.call('diskUpdate', { params: { project, disk: args.disk }, body: { name: args.other } }),
  'flatten-disk': (client, args, project) => client.call('diskFlatten', { params: { project, disk: args.disk } }),
  'tag-disk': (client, args, project) =>
    client.call('diskTag', { params: { project, disk: args.disk }, body: { name: args.tag } }),
  'untag-disk': (client, args, project) =>
    client.call('diskUntag', { params: { project, disk: args.disk, tag: args.tag } }),
  'roll-back-disk': (client, args, project) =>
    client.call('diskRollback', { params: { project, disk: args.disk }, body: { tag: args.tag } }),
  'trash-disk': (client, args, project) => client.call('diskDelete', { params: { project, disk: args.disk } }),
  'purge-disk': (client, args, project) =>
    client.call('diskDelete', { params: { project, disk: args.disk }, query: { purge: 'true' } }),
  'restore-disk': (client, args, project) =>
    client.call('diskRestore', { params: { project, disk: args.disk }, body: {} }),
  'import-image': importing(({ choice }, { contents }) => ({
    kind: 'url',
    url: contents.url(`image-${choice % names.image}`),
  })),
  'copy-image': importing(() => ({ kind: 'image', image: 'golden' })),
  'image-of-disk': importing((args) => ({
    kind: 'disk',
    disk: args.disk,
    ...(args.choice % 2 && { tag: args.tag }),
  })),
  'describe-image': (client, { image, choice }, project) =>
    client.call('imageUpdate', { params: { project, image }, body: { metadata: { defaultUser: `user-${choice}` } } }),
  'delete-image': (client, { image }, project) => client.call('imageDelete', { params: { project, image } }),
  'move-image': (client, { image }, project, { projects }) =>
    client.call('imageUpdate', {
      params: { project, image },
      body: { project: projects.find((other) => other !== project) },
    }),
  /** Every third one, so that what hangs with a process that stands still is mostly among them. */
  cancel: async (client, { choice }) => {
    const { items } = await client.list('operationList', { query: { state: 'running' } });
    const some = items.filter((_, place) => (place + choice) % 3 === 0);
    await Promise.allSettled(some.map(({ id }) => client.call('operationCancel', { params: { id } })));
  },
  /** Two copies of one request at once, one at each gateway, have to be one operation. */
  twice: async (_client, args, project, { doors }) => {
    const wanted = { name: args.disk, image: 'golden' };
    const body = JSON.stringify(wanted);
    const key = randomUUID();
    const copies = await Promise.all(
      doors.map(async (door) => {
        const { url, headers } = door.address('diskCreate', { params: { project }, body: wanted });
        const sent = { ...headers, 'content-type': 'application/json', 'idempotency-key': key };
        const signal = AbortSignal.timeout(30_000);
        const answer = await fetch(url, { method: 'POST', headers: sent, body, signal }).catch(() => undefined);
        return answer && { status: answer.status, json: (await answer.json().catch(() => ({}))) as Operation };
      }),
    );
    const accepted = copies.flatMap((copy) => (copy?.status === 202 ? [copy.json] : []));
    const refused = copies.filter((copy) => copy && copy.status >= 400 && copy.status < 500);
    if (new Set(accepted.map(({ id }) => id)).size > 1 || (accepted.length > 0 && refused.length > 0))
      throw new Error(`${twins} with the key ${key} were answered ${JSON.stringify(copies)}`);
    return accepted[0];
  },
};

/** How a request was answered: accepted as an operation, done, refused with a code, or not answered at all. */
export interface Answered {
  operation?: string;
  refused?: string;
  unanswered?: string;
}

export async function ask(action: Extract<Action, { request: unknown }>, scene: Scene): Promise<Answered> {
  try {
    const { args, request } = action;
    const [client, project] = [scene.doors[args.door]!, scene.projects[args.project]!];
    const answer = (await asks[request](client, args, project, scene)) as Operation | undefined;
    return answer?.steps ? { operation: answer.id } : {};
  } catch (error) {
    if (error instanceof ApiError && error.status < 500) return { refused: error.code };
    if (error instanceof ApiError) return { unanswered: error.code };
    if ((error as Error).message.startsWith(twins)) throw error;
    return { unanswered: (error as Error).message };
  }
}
