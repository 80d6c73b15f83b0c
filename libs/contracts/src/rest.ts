import { z } from 'zod';
import type { ErrorCode } from './errors.js';
import { bytes, id, name, nameOrId, page, pageOf, sha256, text } from './fields.js';
import {
  auditEvent,
  operation,
  operationKinds,
  operationStates,
  project,
  provision,
  type Role,
  roles,
  token,
} from './gateway.js';
import { bmc, node, nodeSpec } from './hil.js';
import { disk, tag } from './disk.js';
import { image, imageFormats, imageMetadata, imageSource, lineage, visibilities } from './image.js';
import { finding, quota, quotaLimits } from './storage.js';

/**
 * The REST door, as data: the gateway's controllers, the guard, OpenAPI and the `m2` command line are made from it.
 */
export interface Route<
  Param extends string = string,
  Query extends z.ZodType = z.ZodType,
  Body extends z.ZodType | null = z.ZodType | null,
  Response extends z.ZodType | null = z.ZodType | null,
> {
  /** OpenAPI's operationId. */
  name: string;
  method: Method;
  /** OpenAPI form: `/v1/projects/{project}`. */
  path: string;
  summary: string;
  /**
   * Who may: a role named here, with a token of that project (or of no project) where the path has one. `public`: anybody,
   * without a token. An admin may everything.
   */
  allow: readonly Role[] | 'public';
  params: z.ZodType<Record<Param, string>>;
  query: Query;
  body: Body;
  /** What is answered; `null`: nothing (204). */
  response: Response;
  status: 200 | 201 | 202 | 204;
  /** Bytes, not JSON, in the body (`upload`) or in the answer (`download`); the gateway passes them on. */
  transfer: 'upload' | 'download' | null;
  /** Server-sent events on `Accept: text/event-stream`. */
  stream: boolean;
  /** Codes of the errors that this route adds to those that any route may answer. */
  errors: readonly ErrorCode[];
}

/** Any route; its parameters are read by name. */
export type AnyRoute = Omit<Route, 'params'> & { params: z.ZodType<object> };

type Method = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
type ParamsOf<Path extends string> = Path extends `${string}{${infer Param}}${infer Rest}`
  ? Param | ParamsOf<Rest>
  : never;

const none = z.object({});

function route<
  const Line extends `${Method} /${string}`,
  Query extends z.ZodType = typeof none,
  Body extends z.ZodType | null = null,
  Response extends z.ZodType | null = null,
>(
  name: string,
  line: Line,
  given: Pick<Route, 'summary' | 'allow'> &
    Partial<Pick<Route, 'status' | 'stream' | 'transfer' | 'errors'>> & {
      query?: Query;
      body?: Body;
      response?: Response;
    },
): Route<ParamsOf<Line>, Query, Body, Response> {
  const [method, path] = line.split(' ') as [Method, string];
  const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, param]) => param as string);
  const params = z.object(Object.fromEntries(names.map((param) => [param, param === 'id' ? id : nameOrId])));
  return {
    name,
    method,
    path,
    summary: given.summary,
    allow: given.allow,
    params: params as unknown as z.ZodType<Record<ParamsOf<Line>, string>>,
    query: given.query ?? (none as unknown as Query),
    body: (given.body ?? null) as Body,
    response: (given.response ?? null) as Response,
    status: given.status ?? (given.response ? 200 : 204),
    transfer: given.transfer ?? null,
    stream: given.stream ?? false,
    errors: given.errors ?? [],
  };
}

const tenants = ['member', 'operator'] as const;
const readers = ['member', 'operator', 'auditor'] as const;
const operators = ['operator'] as const;
const admins = ['admin'] as const;

/** An accepted operation; `Location` holds its URL. */
const accepted = { response: operation, status: 202 } as const;

export const provisionRequest = z
  .object({
    node: nameOrId,
    nic: name.optional(),
    image: nameOrId.optional(),
    disk: nameOrId.optional(),
    /** Name of the disk that is cloned from `image`; absent: made of the node's name and a number. */
    diskName: name.optional(),
    network: name.optional(),
    waitFor: z.enum(['ready', 'booted']).default('booted'),
  })
  .refine((request) => (request.image === undefined) !== (request.disk === undefined), 'give either an image or a disk')
  .refine((request) => request.diskName === undefined || request.image !== undefined, 'diskName goes with image');

export const whoami = z.object({ token: id, name: z.string(), role: z.enum(roles), project: id.nullable() });

export const routes = {
  whoami: route('whoami', 'GET /v1/whoami', { summary: 'Whose token this is', allow: readers, response: whoami }),

  projectList: route('projectList', 'GET /v1/projects', {
    summary: 'The projects that the token may see, by name',
    allow: readers,
    query: page,
    response: pageOf(project),
  }),
  projectCreate: route('projectCreate', 'POST /v1/projects', {
    summary: 'Makes a project',
    allow: operators,
    body: z.object({ name }),
    response: project,
    status: 201,
    errors: ['project.exists'],
  }),
  projectShow: route('projectShow', 'GET /v1/projects/{project}', {
    summary: 'One project',
    allow: readers,
    response: project,
  }),
  projectDelete: route('projectDelete', 'DELETE /v1/projects/{project}', {
    summary: 'Deletes a project that has nothing in it',
    allow: operators,
    errors: ['project.not_empty'],
  }),

  tokenCreate: route('tokenCreate', 'POST /v1/tokens', {
    summary: 'Makes a token; its value is in this answer and nowhere else. A member token belongs to a project',
    allow: admins,
    body: z
      .object({ name, role: z.enum(roles), project: nameOrId.optional() })
      .refine((body) => body.role !== 'member' || body.project !== undefined, 'a member token needs a project')
      // Nodes and projects belong to no project: who manages them is not bound to one.
      .refine(
        (body) => !['admin', 'operator'].includes(body.role) || body.project === undefined,
        'an admin or operator token has no project',
      ),
    response: token.extend({ value: z.string() }),
    status: 201,
  }),
  tokenList: route('tokenList', 'GET /v1/tokens', {
    summary: 'The tokens, without their values',
    allow: admins,
    query: page,
    response: pageOf(token),
  }),
  tokenRevoke: route('tokenRevoke', 'DELETE /v1/tokens/{id}', {
    summary: 'Makes a token void',
    allow: admins,
    errors: ['token.not_found'],
  }),

  imageList: route('imageList', 'GET /v1/projects/{project}/images', {
    summary: 'The images that a project may use, by name: its own, those shared with it and the public ones',
    allow: readers,
    query: page.extend({ own: z.stringbool().default(false) }),
    response: pageOf(image),
  }),
  imageImport: route('imageImport', 'POST /v1/projects/{project}/images', {
    summary:
      'Makes an image from a file of the server, a URL, an upload, a volume of the storage, another image (a copy) or a disk (a snapshot)',
    allow: tenants,
    body: z.object({
      name,
      source: imageSource,
      format: z.enum(imageFormats).optional(),
      sha256: sha256.optional(),
      metadata: imageMetadata.partial().optional(),
    }),
    ...accepted,
    errors: [
      'image.exists',
      'image.not_found',
      'image.not_ready',
      'disk.not_found',
      'tag.not_found',
      'quota.exceeded',
      'disk.not_ready',
      'project.not_found',
    ],
  }),
  imageShow: route('imageShow', 'GET /v1/projects/{project}/images/{image}', {
    summary: 'One image',
    allow: readers,
    response: image,
    errors: ['image.not_found', 'image.ambiguous'],
  }),
  imageTree: route('imageTree', 'GET /v1/projects/{project}/images/{image}/tree', {
    summary: 'What an image came from, and what was made from it',
    allow: readers,
    response: z.object({ items: lineage }),
    errors: ['image.not_found', 'image.ambiguous'],
  }),
  imageUpdate: route('imageUpdate', 'PATCH /v1/projects/{project}/images/{image}', {
    summary: 'Renames, shares, describes or moves an image; public ones are made by operators, who also move',
    allow: tenants,
    body: z
      .object({
        name,
        visibility: z.enum(visibilities),
        sharedWith: z.array(nameOrId).max(1000),
        metadata: imageMetadata.partial(),
        project: nameOrId,
      })
      .partial()
      .refine((body) => Object.values(body).some((value) => value !== undefined), 'say what is to be changed'),
    ...accepted,
    errors: ['image.not_found', 'image.exists', 'project.not_found', 'quota.exceeded'],
  }),
  imageExport: route('imageExport', 'POST /v1/projects/{project}/images/{image}/export', {
    summary: 'Writes an image to a flat volume of the storage, which M2 does not own from then on',
    allow: tenants,
    body: z.object({ volume: text.min(1).max(255) }),
    ...accepted,
    errors: ['image.not_found', 'image.not_ready', 'volume.exists', 'volume.forbidden', 'storage.unsupported'],
  }),
  imageDelete: route('imageDelete', 'DELETE /v1/projects/{project}/images/{image}', {
    summary: 'Deletes an image that no disk depends on',
    allow: tenants,
    ...accepted,
    errors: ['image.not_found', 'image.in_use'],
  }),
  imageContent: route('imageContent', 'GET /v1/projects/{project}/images/{image}/content', {
    summary: 'The bytes of an image; raw ones may be asked for in ranges',
    allow: readers,
    query: z.object({ format: z.enum(['raw', 'qcow2']).default('raw') }),
    transfer: 'download',
    status: 200,
    errors: ['image.not_found', 'image.not_ready'],
  }),
  uploadCreate: route('uploadCreate', 'POST /v1/projects/{project}/images/{image}/upload', {
    summary: 'Begins to send an image that waits for it (tus 1.0.0, creation)',
    allow: tenants,
    transfer: 'upload',
    status: 201,
    errors: ['image.not_found', 'image.not_waiting', 'image.too_large'],
  }),
  uploadShow: route('uploadShow', 'HEAD /v1/projects/{project}/images/{image}/upload', {
    summary: 'How much has come (tus 1.0.0)',
    allow: tenants,
    transfer: 'upload',
    status: 200,
    errors: ['image.not_found', 'image.not_waiting'],
  }),
  uploadAppend: route('uploadAppend', 'PATCH /v1/projects/{project}/images/{image}/upload', {
    summary: 'Sends more of an image (tus 1.0.0)',
    allow: tenants,
    transfer: 'upload',
    errors: ['image.not_found', 'image.not_waiting'],
  }),

  diskList: route('diskList', 'GET /v1/projects/{project}/disks', {
    summary: 'The disks of a project, by name; trashed=true: those in the trash',
    allow: readers,
    query: page.extend({ trashed: z.stringbool().default(false) }),
    response: pageOf(disk),
  }),
  diskCreate: route('diskCreate', 'POST /v1/projects/{project}/disks', {
    summary: 'Clones an image, a disk or a tag of a disk; sizeBytes may make the clone larger',
    allow: tenants,
    body: z
      .object({
        name,
        image: nameOrId.optional(),
        disk: nameOrId.optional(),
        tag: name.optional(),
        sizeBytes: bytes.optional(),
      })
      .refine((body) => (body.image === undefined) !== (body.disk === undefined), 'give either an image or a disk')
      .refine((body) => body.tag === undefined || body.disk !== undefined, 'tag goes with disk'),
    ...accepted,
    errors: [
      'disk.exists',
      'disk.too_small',
      'disk.too_deep',
      'image.not_found',
      'image.not_ready',
      'disk.not_found',
      'tag.not_found',
      'quota.exceeded',
      'disk.not_ready',
    ],
  }),
  diskShow: route('diskShow', 'GET /v1/projects/{project}/disks/{disk}', {
    summary: 'One disk',
    allow: readers,
    response: disk,
    errors: ['disk.not_found'],
  }),
  diskUpdate: route('diskUpdate', 'PATCH /v1/projects/{project}/disks/{disk}', {
    summary: 'Renames a disk, or makes one larger that no node uses',
    allow: tenants,
    body: z
      .object({ name, sizeBytes: bytes })
      .partial()
      .refine((body) => body.name !== undefined || body.sizeBytes !== undefined, 'say what is to be changed'),
    ...accepted,
    errors: ['disk.not_found', 'disk.exists', 'disk.in_use', 'disk.too_small', 'quota.exceeded', 'disk.not_ready'],
  }),
  diskDelete: route('diskDelete', 'DELETE /v1/projects/{project}/disks/{disk}', {
    summary:
      'Puts a disk into the trash, where it can be restored from for a while; purge=true: removes it and its data at once',
    allow: tenants,
    query: z.object({ purge: z.stringbool().default(false) }),
    ...accepted,
    errors: ['disk.not_found', 'disk.in_use', 'tag.in_use'],
  }),
  diskRestore: route('diskRestore', 'POST /v1/projects/{project}/disks/{disk}/restore', {
    summary: 'Takes a disk out of the trash',
    allow: tenants,
    body: z.object({ name: name.optional() }),
    ...accepted,
    errors: ['disk.not_found', 'disk.exists', 'disk.not_ready'],
  }),
  diskFlatten: route('diskFlatten', 'POST /v1/projects/{project}/disks/{disk}/flatten', {
    summary: 'Makes a disk independent of what it was cloned from',
    allow: tenants,
    ...accepted,
    errors: ['disk.not_found', 'disk.not_ready'],
  }),
  diskTags: route('diskTags', 'GET /v1/projects/{project}/disks/{disk}/tags', {
    summary: 'The tags of a disk, by name',
    allow: readers,
    query: page,
    response: pageOf(tag),
    errors: ['disk.not_found'],
  }),
  diskTag: route('diskTag', 'POST /v1/projects/{project}/disks/{disk}/tags', {
    summary: 'Keeps a disk as it is at this moment, also while a node uses it',
    allow: tenants,
    body: z.object({ name }),
    ...accepted,
    errors: ['disk.not_found', 'tag.exists', 'disk.too_many_tags', 'disk.not_ready'],
  }),
  diskUntag: route('diskUntag', 'DELETE /v1/projects/{project}/disks/{disk}/tags/{tag}', {
    summary: 'Forgets a tag that nothing was made from',
    allow: tenants,
    ...accepted,
    errors: ['disk.not_found', 'tag.not_found', 'tag.in_use', 'disk.not_ready'],
  }),
  diskRollback: route('diskRollback', 'POST /v1/projects/{project}/disks/{disk}/rollback', {
    summary: 'Puts a disk that no node uses back to what it was when it was tagged',
    allow: tenants,
    body: z.object({ tag: name }),
    ...accepted,
    errors: ['disk.not_found', 'tag.not_found', 'disk.in_use', 'disk.not_ready'],
  }),
  diskContent: route('diskContent', 'GET /v1/projects/{project}/disks/{disk}/content', {
    summary: 'The bytes of a tag, or of a disk that no node uses; with `since`, what changed after another tag',
    allow: readers,
    query: z
      .object({
        format: z.enum(['raw', 'qcow2', 'rbd-diff']).default('raw'),
        tag: name.optional(),
        since: name.optional(),
      })
      .refine((query) => query.since === undefined || query.format === 'rbd-diff', 'since goes with format=rbd-diff'),
    transfer: 'download',
    status: 200,
    errors: ['disk.not_found', 'tag.not_found', 'disk.in_use', 'disk.not_ready'],
  }),

  quotaShow: route('quotaShow', 'GET /v1/projects/{project}/quota', {
    summary: 'What a project may store, and what it does store',
    allow: readers,
    response: quota,
  }),
  quotaSet: route('quotaSet', 'PUT /v1/projects/{project}/quota', {
    summary: 'Limits what a project may store; null is no limit',
    allow: operators,
    body: quotaLimits,
    response: quota,
  }),
  storageCheck: route('storageCheck', 'GET /v1/storage/check', {
    summary: 'Compares the storage with what is on record',
    allow: operators,
    response: z.object({ items: z.array(finding) }),
  }),
  storageRepair: route('storageRepair', 'POST /v1/storage/repair', {
    summary: 'Repairs the differences whose grace time is over',
    allow: operators,
    response: z.object({ repaired: z.array(finding), left: z.array(finding) }),
    status: 200,
  }),

  nodeList: route('nodeList', 'GET /v1/nodes', {
    summary: 'The nodes that the token may use, by name',
    allow: readers,
    query: page,
    response: pageOf(node),
  }),
  nodeRegister: route('nodeRegister', 'POST /v1/nodes', {
    summary: 'Makes a node known',
    allow: operators,
    body: nodeSpec,
    response: node,
    status: 201,
    errors: ['node.exists'],
  }),
  nodeShow: route('nodeShow', 'GET /v1/nodes/{node}', { summary: 'One node', allow: readers, response: node }),
  nodeSetBmc: route('nodeSetBmc', 'PUT /v1/nodes/{node}/bmc', {
    summary: 'Changes how a node is powered',
    allow: operators,
    body: bmc,
    response: node,
  }),
  nodePower: route('nodePower', 'GET /v1/nodes/{node}/power', {
    summary: 'Asks the BMC of a node for its power state',
    allow: operators,
    response: z.object({ power: z.enum(['on', 'off']) }),
    errors: ['bmc.unreachable', 'bmc.auth_failed'],
  }),
  nodeRemove: route('nodeRemove', 'DELETE /v1/nodes/{node}', {
    summary: 'Forgets a node that nobody holds',
    allow: operators,
    errors: ['node.busy'],
  }),

  provisionList: route('provisionList', 'GET /v1/projects/{project}/provisions', {
    summary: 'The provisions of a project, newest first; those that ended only with all=true',
    allow: readers,
    query: page.extend({ all: z.stringbool().default(false) }),
    response: pageOf(provision),
  }),
  provisionCreate: route('provisionCreate', 'POST /v1/projects/{project}/provisions', {
    summary: 'Boots a node from a clone of an image, or from a disk that waits',
    allow: tenants,
    body: provisionRequest,
    ...accepted,
    errors: ['node.busy', 'disk.in_use', 'image.not_ready', 'nic.not_found', 'disk.exists', 'disk.not_ready'],
  }),
  provisionShow: route('provisionShow', 'GET /v1/projects/{project}/provisions/{id}', {
    summary: 'One provision',
    allow: readers,
    response: provision,
    errors: ['provision.not_found'],
  }),
  provisionDelete: route('provisionDelete', 'DELETE /v1/projects/{project}/provisions/{id}', {
    summary: 'Powers the node off and takes everything back; the disk is kept unless disk=delete',
    allow: tenants,
    query: z.object({ disk: z.enum(['keep', 'delete']).default('keep') }),
    ...accepted,
    errors: ['provision.not_found', 'provision.ending'],
  }),

  operationList: route('operationList', 'GET /v1/operations', {
    summary: 'The operations of the projects that the token may see, newest first',
    allow: readers,
    query: page.extend({
      project: nameOrId.optional(),
      kind: z.enum(operationKinds).optional(),
      state: z.enum(operationStates).optional(),
    }),
    response: pageOf(operation),
  }),
  operationShow: route('operationShow', 'GET /v1/operations/{id}', {
    summary: 'One operation with its steps; as a stream, again after each change until it ends',
    allow: readers,
    response: operation,
    stream: true,
    errors: ['operation.not_found'],
  }),
  operationCancel: route('operationCancel', 'POST /v1/operations/{id}/cancel', {
    summary: 'Asks an operation to stop and undo what it did',
    allow: tenants,
    ...accepted,
    errors: ['operation.not_found', 'operation.not_cancellable'],
  }),
  operationResume: route('operationResume', 'POST /v1/operations/{id}/resume', {
    summary: 'Lets an operation that needs attention go on, when its cause is mended',
    allow: tenants,
    ...accepted,
    errors: ['operation.not_found', 'operation.not_resumable'],
  }),

  eventList: route('eventList', 'GET /v1/events', {
    summary: 'What happened, oldest first; as a stream, what happens from now on (or from `cursor` on)',
    allow: readers,
    query: page.extend({
      project: nameOrId.optional(),
      type: z
        .string()
        .max(100)
        .regex(/^[a-z.-]+\*?$/, 'must be a type, or its beginning and *')
        .optional(),
    }),
    response: pageOf(auditEvent),
    stream: true,
  }),

  openapi: route('openapi', 'GET /v1/openapi.json', {
    summary: 'This API, as OpenAPI 3.1',
    allow: 'public',
    response: z.unknown(),
  }),
  asyncapi: route('asyncapi', 'GET /v1/asyncapi.json', {
    summary: 'The events and messages, as AsyncAPI 3.0',
    allow: 'public',
    response: z.unknown(),
  }),
  health: route('health', 'GET /healthz', {
    summary: 'Whether the gateway lives',
    allow: 'public',
    response: z.object({ status: z.literal('ok') }),
  }),
} as const;

export type RouteName = keyof typeof routes;
