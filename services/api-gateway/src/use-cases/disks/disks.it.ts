import {
  type Call,
  diskCreate,
  diskDelete,
  diskRestore,
  diskRollback,
  diskTag,
  diskUntag,
  diskUpdate,
  M2Error,
} from '@m2/contracts';
import { until } from '@m2/service-kit/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openGateway, type OperationBody, type TestGateway } from '../../testing/gateway.js';

let gateway: TestGateway;
let lab: { id: string };
let token: string;

beforeAll(async () => {
  gateway = await openGateway();
  lab = await gateway.project('lab');
  token = await gateway.token('member', 'lab');
});
afterAll(() => gateway?.close());

const at = '/v1/projects/lab/disks';
const ask = (method: string, path: string, body?: unknown) => gateway.ask(method, `${at}${path}`, { token, body });
const code = ({ status, body }: { status: number; body: never }) => [status, (body as { code?: string })?.code];
/** What the operation sent as this command: it may send others too. */
const sentFor = async (call: Call, answer: { status: number; body: never }) => {
  expect([answer.status, answer.body]).toMatchObject([202, { state: 'running' }]);
  const { id } = answer.body as OperationBody;
  expect(await gateway.ended({ id })).toMatchObject({ state: 'succeeded', error: null });
  return gateway.standIns.asked.find(({ effect, subject }) => effect?.startsWith(id) && subject === call.subject)
    ?.request;
};
const addDisk = (name: string, more = {}) => gateway.standIns.storage.addDisk(name, lab.id, more);

describe('a new disk', () => {
  it('is a clone of an image, of a disk as it is, or as it was tagged', async () => {
    const image = gateway.standIns.addImage('golden', lab.id);
    const disk = addDisk('tenant', { holder: lab.id, sizeBytes: 4096 });
    const tag = gateway.standIns.storage.addTag('v1', disk);
    expect(await sentFor(diskCreate, await ask('POST', '', { name: 'a', image: 'golden', sizeBytes: 1024 }))).toEqual({
      diskId: expect.any(String) as string,
      project: lab.id,
      name: 'a',
      from: { kind: 'image', image: image.id },
      sizeBytes: 1024,
    });
    const fork = await ask('POST', '', { name: 'b', disk: 'tenant' });
    expect(await sentFor(diskCreate, fork)).toMatchObject({ from: { kind: 'disk', disk: disk.id } });
    expect((fork.body as OperationBody).about).toMatchObject({ from: disk.id });
    expect(await sentFor(diskCreate, await ask('POST', '', { name: 'c', disk: disk.id, tag: 'v1' }))).toMatchObject({
      from: { kind: 'disk', disk: disk.id, tag: tag.id },
    });
  });

  it('is refused at once when it cannot be', async () => {
    addDisk('taken');
    addDisk('young', { state: 'creating' });
    addDisk('gone', { state: 'trashed' });
    gateway.standIns.addImage('half', lab.id, { state: 'importing' });
    for (const [body, status, expected] of [
      [{ name: 'taken', image: 'golden' }, 409, 'disk.exists'],
      [{ name: 'x', image: 'nothing' }, 404, 'image.not_found'],
      [{ name: 'x', image: 'half' }, 409, 'image.not_ready'],
      [{ name: 'x', image: 'golden', sizeBytes: 511 }, 422, 'disk.too_small'],
      [{ name: 'x', disk: 'tenant', sizeBytes: 4095 }, 422, 'disk.too_small'],
      [{ name: 'x', disk: 'tenant', tag: 'nothing' }, 404, 'tag.not_found'],
      [{ name: 'x', disk: 'young' }, 409, 'disk.not_ready'],
      [{ name: 'x', disk: 'gone' }, 404, 'disk.not_found'],
      [{ name: 'x', image: 'golden', disk: 'tenant' }, 400, 'request.invalid'],
      [{ name: 'x', image: 'golden', tag: 'v1' }, 400, 'request.invalid'],
      [{ name: 'x' }, 400, 'request.invalid'],
    ] as const)
      expect([body, code(await ask('POST', '', body))]).toEqual([body, [status, expected]]);
    // The name of what is in the trash is free.
    await sentFor(diskCreate, await ask('POST', '', { name: 'gone', image: 'golden' }));
  });
});

describe('a disk', () => {
  it('is renamed also while a node uses it, and made larger while none does', async () => {
    const disk = addDisk('free');
    const held = addDisk('held', { holder: lab.id });
    expect(await sentFor(diskUpdate, await ask('PATCH', '/free', { name: 'freed', sizeBytes: 1024 }))).toEqual({
      diskId: disk.id,
      project: lab.id,
      name: 'freed',
      sizeBytes: 1024,
    });
    expect(await sentFor(diskUpdate, await ask('PATCH', '/held', { name: 'kept' }))).toEqual({
      diskId: held.id,
      project: lab.id,
      name: 'kept',
    });
    for (const [path, body, status, expected] of [
      ['/kept', { sizeBytes: 2048 }, 409, 'disk.in_use'],
      ['/freed', { sizeBytes: 1023 }, 422, 'disk.too_small'],
      ['/freed', { name: 'kept' }, 409, 'disk.exists'],
      ['/freed', {}, 400, 'request.invalid'],
      ['/nothing', { name: 'x' }, 404, 'disk.not_found'],
    ] as const)
      expect([body, code(await ask('PATCH', path, body))]).toEqual([body, [status, expected]]);
  });

  it('is deleted into the trash, found there, and comes back under a name that is free', async () => {
    const disk = addDisk('web');
    expect(await sentFor(diskDelete, await ask('DELETE', '/web'))).toEqual({
      diskId: disk.id,
      project: lab.id,
      purge: false,
    });
    expect(code(await ask('GET', '/web'))).toEqual([404, 'disk.not_found']);
    expect((await ask('GET', '?trashed=true')).text).toContain(disk.id);
    addDisk('web');
    expect(code(await ask('POST', '/web/restore', {}))).toEqual([409, 'disk.exists']);
    expect(await sentFor(diskRestore, await ask('POST', '/web/restore', { name: 'web-old' }))).toEqual({
      diskId: disk.id,
      project: lab.id,
      name: 'web-old',
    });
    expect(code(await ask('POST', '/web-old/restore', {}))).toEqual([404, 'disk.not_found']);
    expect(code(await ask('POST', `/${disk.id}/restore`, {}))).toEqual([409, 'disk.not_ready']);
  });

  it('is removed for good when that is said, also from the trash; of namesakes there, one has to be named', async () => {
    const [one, two] = [addDisk('twin', { state: 'trashed' }), addDisk('twin', { state: 'trashed' })];
    const which = await ask('DELETE', '/twin?purge=true');
    expect(code(which)).toEqual([400, 'request.invalid']);
    for (const { id } of [one, two]) expect(which.text).toContain(id);
    expect(code(await ask('POST', '/twin/restore', {}))).toEqual([400, 'request.invalid']);
    await sentFor(diskDelete, await ask('DELETE', `/${one.id}?purge=true`));
    expect(await sentFor(diskDelete, await ask('DELETE', '/twin?purge=true'))).toEqual({
      diskId: two.id,
      project: lab.id,
      purge: true,
    });
    // A disk that is there comes before its namesake in the trash.
    addDisk('named', { state: 'trashed' });
    const live = addDisk('named');
    expect(await sentFor(diskDelete, await ask('DELETE', '/named?purge=true'))).toMatchObject({ diskId: live.id });
    addDisk('used', { holder: lab.id });
    for (const query of ['', '?purge=true'])
      expect(code(await ask('DELETE', `/used${query}`))).toEqual([409, 'disk.in_use']);
  });

  it('keeps its project from being deleted, also from the trash', async () => {
    const { id } = await gateway.project('leaving');
    const disk = gateway.standIns.storage.addDisk('last', id, { state: 'trashed' });
    gateway.standIns.addImage('everybodys', lab.id, { visibility: 'public' });
    expect(code(await gateway.ask('DELETE', '/v1/projects/leaving'))).toEqual([409, 'project.not_empty']);
    gateway.standIns.disks.delete(disk.id);
    expect((await gateway.ask('DELETE', '/v1/projects/leaving')).status).toBe(204);
  });

  it('is made flat in the background, which is watched', async () => {
    const disk = addDisk('deep');
    const copying = { phase: 'copy', done: 1, total: 4 };
    gateway.standIns.storage.flattening = { flattening: { progress: copying, error: null } };
    const begun = (await ask('POST', '/deep/flatten')).body as OperationBody;
    const { steps } = await until('its progress is seen', async () => {
      const seen = (await gateway.ask('GET', `/v1/operations/${begun.id}`)).body as OperationBody;
      return seen.steps[0]!.progress && seen;
    });
    expect(steps[0]!.progress).toEqual({ done: 1, total: 4, text: 'copy' });
    gateway.standIns.disks.set(disk.id, { ...disk, flattening: null });
    expect(await gateway.ended(begun)).toMatchObject({ state: 'succeeded' });
  });

  it('that becomes flat stays a clone when that is cancelled', async () => {
    const disk = addDisk('deep-again', { depth: 1 });
    gateway.standIns.storage.flattening = { flattening: { progress: null, error: null } };
    const begun = (await ask('POST', '/deep-again/flatten')).body as OperationBody;
    expect(begun.cancellable).toBe(true);
    expect((await gateway.ask('POST', `/v1/operations/${begun.id}/cancel`, { token })).status).toBe(202);
    expect(await gateway.ended(begun)).toMatchObject({ state: 'cancelled' });
    expect(gateway.standIns.disks.get(disk.id)).toMatchObject({ state: 'ready', depth: 1, flattening: null });
  });

  it('that cannot be made flat stays as it is, and says why', async () => {
    const error = { code: 'storage.full', detail: 'The pool is full' };
    const disk = addDisk('fat');
    gateway.standIns.storage.flattening = { flattening: { progress: null, error } };
    const { body } = await ask('POST', '/fat/flatten');
    expect(await gateway.ended(body as OperationBody)).toMatchObject({ state: 'failed', error });
    expect(gateway.standIns.disks.get(disk.id)).toMatchObject({ state: 'ready' });
  });
});

describe('tags', () => {
  it('are made, listed, gone back to and forgotten, by their names or identifiers', async () => {
    const disk = addDisk('tagged');
    const held = addDisk('running', { holder: lab.id });
    const answer = await ask('POST', '/tagged/tags', { name: 'v1' });
    const made = (await sentFor(diskTag, answer)) as { tagId: string };
    expect(made).toEqual({ tagId: expect.any(String) as string, diskId: disk.id, project: lab.id, name: 'v1' });
    expect((answer.body as OperationBody).about).toEqual({ disk: disk.id, tag: made.tagId });
    await sentFor(diskTag, await ask('POST', '/running/tags', { name: 'live' }));
    expect((await ask('GET', '/tagged/tags')).body).toMatchObject({ items: [{ name: 'v1', id: made.tagId }] });
    expect(await sentFor(diskRollback, await ask('POST', '/tagged/rollback', { tag: 'v1' }))).toEqual({
      diskId: disk.id,
      project: lab.id,
      tag: made.tagId,
    });
    for (const [method, path, body, status, expected] of [
      ['POST', '/tagged/tags', { name: 'v1' }, 409, 'tag.exists'],
      ['POST', '/tagged/tags', { name: 'No Name' }, 400, 'request.invalid'],
      ['DELETE', '/tagged/tags/live', undefined, 404, 'tag.not_found'],
      ['DELETE', `/running/tags/${made.tagId}`, undefined, 404, 'tag.not_found'],
      ['POST', '/tagged/rollback', { tag: 'live' }, 404, 'tag.not_found'],
      ['POST', '/running/rollback', { tag: 'live' }, 409, 'disk.in_use'],
    ] as const)
      expect([path, code(await ask(method, path, body))]).toEqual([path, [status, expected]]);
    expect(await sentFor(diskUntag, await ask('DELETE', `/tagged/tags/${made.tagId}`))).toMatchObject({
      tagId: made.tagId,
    });
    await sentFor(diskUntag, await ask('DELETE', `/${held.id}/tags/live`));
  });

  it('that failed are forgotten again; a rollback that is refused changes nothing', async () => {
    addDisk('unlucky');
    gateway.standIns.fail(diskTag, new M2Error('disk.too_many_tags', 'There are 32'));
    const failed = (await ask('POST', '/unlucky/tags', { name: 'v1' })).body as OperationBody;
    expect(await gateway.ended(failed)).toMatchObject({ state: 'failed', error: { code: 'disk.too_many_tags' } });
    expect(gateway.standIns.asked.at(-1)).toMatchObject({ subject: diskUntag.subject });
    await sentFor(diskTag, await ask('POST', '/unlucky/tags', { name: 'v1' }));
    gateway.standIns.fail(diskRollback, new M2Error('disk.in_use', 'A node has it'));
    const refused = (await ask('POST', '/unlucky/rollback', { tag: 'v1' })).body as OperationBody;
    const ended = await gateway.ended(refused);
    expect(ended).toMatchObject({ state: 'failed', cancellable: false, error: { code: 'disk.in_use' } });
    expect(gateway.standIns.asked.filter(({ effect }) => effect?.startsWith(refused.id))).toHaveLength(1);
  });
});
