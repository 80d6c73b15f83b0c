import { imageImport, imageUpdate } from '@m2/contracts';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openGateway, type OperationBody, type TestGateway } from '../testing/gateway.js';
import { Projects } from './projects.js';

/** Whatever refers to a project keeps it from being deleted, or goes with it; and nothing comes to refer to one that is gone. */
let gateway: TestGateway;
let lab: { id: string; name: string };
let count = 0;

beforeAll(async () => {
  gateway = await openGateway();
  lab = await gateway.project('lab');
});
afterAll(() => gateway?.close());

const remove = async (id: string) => (await gateway.ask('DELETE', `/v1/projects/${id}`)).status;
const newProject = () => gateway.project(`other-${(count += 1)}`);
const update = async (image: string, body: object) =>
  (await gateway.ask('PATCH', `/v1/projects/lab/images/${image}`, { body })).body as OperationBody;

describe('a project is kept', () => {
  it.each([
    ['into which an image is being moved', (to: string) => ({ project: to })],
    ['with which an image is being shared', (to: string) => ({ sharedWith: [lab.id, to] })],
  ])('%s', async (_, changes) => {
    const { id } = await newProject();
    const image = gateway.standIns.addImage(`image-${count}`, lab.id);
    const release = gateway.standIns.hold(imageUpdate);
    const begun = await update(image.id, changes(id));
    expect(await remove(id)).toBe(409);
    release();
    expect(await gateway.ended(begun)).toMatchObject({ state: 'succeeded' });
    gateway.standIns.images.delete(image.id);
    expect(await remove(id)).toBe(204);
  });

  it('in which something is being made', async () => {
    const { id } = await newProject();
    const release = gateway.standIns.hold(imageImport);
    const body = { name: 'slow', source: { kind: 'upload' } };
    const begun = (await gateway.ask('POST', `/v1/projects/${id}/images`, { body })).body as OperationBody;
    expect(await remove(id)).toBe(409);
    release();
    await gateway.ask('POST', `/v1/operations/${begun.id}/cancel`);
    await gateway.ended(begun);
  });

  it.each([
    ['an image', (id: string) => void gateway.standIns.addImage('last', id), () => gateway.standIns.images.clear()],
    ['a disk', (id: string) => void gateway.standIns.storage.addDisk('last', id), () => gateway.standIns.disks.clear()],
    [
      'a disk in the trash',
      (id: string) => void gateway.standIns.storage.addDisk('last', id, { state: 'trashed' }),
      () => gateway.standIns.disks.clear(),
    ],
    ['a node', (id: string) => void gateway.standIns.addNode('last', id), () => gateway.standIns.nodes.clear()],
  ])('that has %s', async (_, add, clear) => {
    const { id } = await newProject();
    add(id);
    expect(await remove(id)).toBe(409);
    clear();
    // What belongs to nobody, and to others, is no reason.
    gateway.standIns.addNode('shared');
    gateway.standIns.addImage('everybodys', lab.id, { visibility: 'public' });
    expect(await remove(id)).toBe(204);
    gateway.standIns.nodes.clear();
    gateway.standIns.images.clear();
  });
});

describe('a project that is gone', () => {
  const node = {
    name: 'node-1',
    nics: [{ label: 'eth0', mac: '52:54:00:12:34:56' }],
    bmc: { address: '10.1.1.7', user: 'admin', password: 'secret' },
  };
  const limits = { bytes: null, disks: 1, images: null };

  it('gets no node, quota, token or image', async () => {
    const { id } = await newProject();
    expect(await remove(id)).toBe(204);
    const image = gateway.standIns.addImage('stays', lab.id);
    const answers = await Promise.all([
      gateway.ask('POST', '/v1/nodes', { body: { ...node, project: id } }),
      gateway.ask('PUT', `/v1/projects/${id}/quota`, { body: limits }),
      gateway.ask('POST', '/v1/tokens', { body: { name: 'late', role: 'member', project: id } }),
      gateway.ask('PATCH', `/v1/projects/lab/images/${image.id}`, { body: { project: id } }),
      gateway.ask('PATCH', `/v1/projects/lab/images/${image.id}`, { body: { sharedWith: [id] } }),
    ]);
    expect(answers.map(({ status, body }) => [status, (body as { code: string }).code])).toEqual(
      answers.map(() => [404, 'project.not_found']),
    );
  });

  it('is not referred to by who saw it a moment before', async () => {
    const projects = new Projects(gateway.kit);
    const gone = uuidv7();
    await expect(projects.during([lab.id, gone], async () => 'done')).rejects.toMatchObject({
      code: 'project.not_found',
    });
    expect(await projects.during([lab.id], async () => 'done')).toBe('done');
  });
});
