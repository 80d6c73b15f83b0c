import {
  type Call,
  diskCreate,
  imageDelete,
  imageExportCancel,
  imageExportShow,
  imageExportStart,
  imageImport,
  imageUpdate,
  M2Error,
} from '@m2/contracts';
import { until } from '@m2/service-kit/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openGateway, type OperationBody, type TestGateway } from '../../testing/gateway.js';

let gateway: TestGateway;
let lab: { id: string };
let other: { id: string };
let third: { id: string };
let member: string;
let operator: string;

beforeAll(async () => {
  gateway = await openGateway();
  [lab, other, third] = await Promise.all([gateway.project('lab'), gateway.project('other'), gateway.project('third')]);
  member = await gateway.token('member', 'lab');
  operator = await gateway.token('operator');
});
afterAll(() => gateway?.close());

const at = '/v1/projects/lab/images';
const code = ({ status, body }: { status: number; body: never }) => [status, (body as { code?: string })?.code];
const post = (body: unknown, token = member) => gateway.ask('POST', at, { body, token });
const patch = (image: string, body: unknown, token = member) => gateway.ask('PATCH', `${at}/${image}`, { body, token });
/** What the operation sent as this command: it may send others too. */
const sentFor = async (call: Call, answer: { status: number; body: never }) => {
  expect(answer.status).toBe(202);
  expect(await gateway.ended(answer.body as OperationBody)).toMatchObject({ state: 'succeeded', error: null });
  const { id } = answer.body as OperationBody;
  return gateway.standIns.asked.find(({ effect, subject }) => effect?.startsWith(id) && subject === call.subject)
    ?.request;
};

describe('a new image', () => {
  const file = { kind: 'file', path: '/images/a.qcow2' } as const;

  it.each([
    [file],
    [{ kind: 'url', url: 'https://images.example.org/a.vmdk' }],
    [{ kind: 'volume', volume: 'pool/golden@v1' }],
  ])('is made of %j as it was said', async (source) => {
    const name = `of-${source.kind}`;
    const metadata = { operatingSystem: 'Debian 13', userData: true };
    expect(await sentFor(imageImport, await post({ name, source, format: 'vmdk', metadata }))).toMatchObject({
      project: lab.id,
      name,
      source,
      format: 'vmdk',
      metadata,
    });
  });

  it('is a copy of an image, which is named by its identifier and its owner', async () => {
    const image = gateway.standIns.addImage('golden', lab.id);
    for (const which of ['golden', image.id])
      expect(
        await sentFor(
          imageImport,
          await post({ name: `copy-${which.slice(-12)}`, source: { kind: 'image', image: which } }),
        ),
      ).toMatchObject({ source: { kind: 'image', image: image.id, project: lab.id } });
  });

  it('is a copy of an image of another project, for who may read that project or is let use the image', async () => {
    const hidden = gateway.standIns.addImage('hidden', other.id);
    const shared = gateway.standIns.addImage('both', other.id, { visibility: 'shared', sharedWith: [lab.id] });
    gateway.standIns.addImage('both', third.id, { visibility: 'public' });
    const copy = (name: string, image: string, project: string, token?: string) =>
      post({ name, source: { kind: 'image', image, project } }, token);
    expect(await sentFor(imageImport, await copy('c-1', 'hidden', 'other', operator))).toMatchObject({
      source: { image: hidden.id, project: other.id },
    });
    for (const [name, image, project] of [
      ['c-2', 'both', 'other'],
      ['c-3', shared.id, other.id],
    ] as const)
      expect(await sentFor(imageImport, await copy(name, image, project))).toMatchObject({
        source: { image: shared.id, project: other.id },
      });
    // It looks the same whether the project is there, whether the image is, and whose it is.
    const refusals = await Promise.all([
      copy('x', 'hidden', 'other'),
      copy('x', hidden.id, 'other'),
      copy('x', 'nothing', 'other'),
      copy('x', shared.id, 'third'),
      copy('x', 'hidden', 'nowhere'),
    ]);
    expect(refusals.map(code)).toEqual(refusals.map(() => [404, 'project.not_found']));
    expect(refusals[0]!.text.replaceAll('other', 'nowhere').replaceAll(/"traceId":"\w+"/g, '')).toBe(
      refusals[4]!.text.replaceAll(/"traceId":"\w+"/g, ''),
    );
  });

  it('is a snapshot of a disk, as it is or as it was tagged', async () => {
    const disk = gateway.standIns.storage.addDisk('web-1', lab.id, { holder: lab.id });
    const tag = gateway.standIns.storage.addTag('v1', disk);
    const answer = await post({ name: 'now', source: { kind: 'disk', disk: 'web-1' } });
    expect(await sentFor(imageImport, answer)).toMatchObject({ source: { kind: 'disk', disk: disk.id } });
    expect((answer.body as OperationBody).about).toMatchObject({ disk: disk.id });
    expect(
      await sentFor(imageImport, await post({ name: 'then', source: { kind: 'disk', disk: disk.id, tag: 'v1' } })),
    ).toMatchObject({ source: { kind: 'disk', disk: disk.id, tag: tag.id } });
  });

  it('is refused at once when it cannot be made', async () => {
    gateway.standIns.addImage('taken', lab.id);
    gateway.standIns.addImage('half', lab.id, { state: 'importing' });
    gateway.standIns.storage.addDisk('old', lab.id, { state: 'trashed' });
    gateway.standIns.storage.addDisk('young', lab.id, { state: 'creating' });
    const begun = gateway.standIns.asked.filter(({ subject }) => subject === imageImport.subject).length;
    for (const [name, source, status, expected] of [
      ['taken', file, 409, 'image.exists'],
      ['x', { kind: 'image', image: 'nothing' }, 404, 'image.not_found'],
      ['x', { kind: 'image', image: 'half' }, 409, 'image.not_ready'],
      ['x', { kind: 'disk', disk: 'nothing' }, 404, 'disk.not_found'],
      ['x', { kind: 'disk', disk: 'old' }, 404, 'disk.not_found'],
      ['x', { kind: 'disk', disk: 'young' }, 409, 'disk.not_ready'],
      ['x', { kind: 'disk', disk: 'web-1', tag: 'nothing' }, 404, 'tag.not_found'],
      ['x', { kind: 'file', path: '/a\0' }, 400, 'request.invalid'],
      ['x', { kind: 'url', url: 'file:///etc/passwd' }, 400, 'request.invalid'],
      ['x', { kind: 'pipe' }, 400, 'request.invalid'],
    ] as const)
      expect([source, code(await post({ name, source }))]).toEqual([source, [status, expected]]);
    expect(gateway.standIns.asked.filter(({ subject }) => subject === imageImport.subject)).toHaveLength(begun);
  });

  it('may take the name of one that others share', async () => {
    gateway.standIns.addImage('popular', other.id, { visibility: 'public' });
    expect(await sentFor(imageImport, await post({ name: 'popular', source: file }))).toMatchObject({
      name: 'popular',
      project: lab.id,
    });
  });

  it('that waits for an upload waits, and can be cancelled', async () => {
    const { body } = await post({ name: 'sent', source: { kind: 'upload' } });
    const { id, about } = body as OperationBody;
    await until('the service waits for it', () => gateway.standIns.images.has(about['image']!));
    expect((await gateway.ask('GET', `/v1/operations/${id}`)).body).toMatchObject({ state: 'running' });
    expect((await gateway.ask('POST', `/v1/operations/${id}/cancel`, { token: member })).status).toBe(202);
    expect(await gateway.ended({ id })).toMatchObject({ state: 'cancelled' });
    expect(gateway.standIns.images.has(about['image']!)).toBe(false);
  });

  it('that waits for an upload is done when that is', async () => {
    const { body } = await post({ name: 'sent', source: { kind: 'upload' } });
    const image = await until('the service waits for it', () =>
      gateway.standIns.images.get((body as OperationBody).about['image']!),
    );
    gateway.standIns.images.set(image.id, { ...image, state: 'ready' });
    expect(await gateway.ended(body as OperationBody)).toMatchObject({ state: 'succeeded' });
  });

  it('that turns out to be none is taken back', async () => {
    const { body } = await post({ name: 'bad', source: { kind: 'upload' } });
    const { about } = body as OperationBody;
    const image = await until('the service waits for it', () => gateway.standIns.images.get(about['image']!));
    const error = { code: 'image.not_an_image', detail: 'It is a poem', about: { name: 'bad' } };
    gateway.standIns.images.set(image.id, { ...image, state: 'failed', error });
    expect(await gateway.ended(body as OperationBody)).toMatchObject({ state: 'failed', error });
    expect(
      gateway.standIns.asked.some(({ effect }) => effect === `${(body as OperationBody).id}/import-image/undo`),
    ).toBe(true);
    expect(gateway.standIns.images.has(about['image']!)).toBe(false);
  });
});

describe('an image', () => {
  it('is renamed, described and shared by its project, with projects that need not be visible to it', async () => {
    const image = gateway.standIns.addImage('plain', lab.id);
    const metadata = { defaultUser: 'debian' };
    const sharing = { visibility: 'shared', sharedWith: ['other', third.id, other.id] };
    expect(await sentFor(imageUpdate, await patch('plain', { name: 'better', metadata, ...sharing }))).toEqual({
      imageId: image.id,
      project: lab.id,
      name: 'better',
      metadata,
      visibility: 'shared',
      sharedWith: [other.id, third.id],
    });
    expect(code(await patch('better', { sharedWith: ['nowhere'] }))).toEqual([404, 'project.not_found']);
    expect(code(await patch('better', { name: 'taken' }))).toEqual([409, 'image.exists']);
    expect(code(await patch('better', {}))).toEqual([400, 'request.invalid']);
    // Its own name is no other one's.
    await sentFor(imageUpdate, await patch('better', { name: 'better', visibility: 'private' }));
  });

  it('is made public, and moved, by operators and admins', async () => {
    const image = gateway.standIns.addImage('moving', lab.id);
    for (const body of [{ visibility: 'public' }, { project: 'other' }, { project: 'nowhere' }]) {
      const refused = await patch('moving', body);
      expect([body, code(refused)]).toEqual([body, [403, 'auth.forbidden']]);
      expect((refused.body as { detail: string }).detail).toMatch(/^Only an operator or admin /);
    }
    expect(await sentFor(imageUpdate, await patch('moving', { visibility: 'public' }, operator))).toMatchObject({
      visibility: 'public',
    });
    // What is public may be described, and be taken back, by who has it.
    await sentFor(imageUpdate, await patch('moving', { visibility: 'public', metadata: { userData: true } }));
    gateway.standIns.addImage('moving', third.id);
    expect(code(await patch('moving', { project: 'third' }, operator))).toEqual([409, 'image.exists']);
    expect(await sentFor(imageUpdate, await patch('moving', { project: 'other' }, operator))).toEqual({
      imageId: image.id,
      project: lab.id,
      toProject: other.id,
    });
  });

  it('that another project shares is used, and not changed', async () => {
    const image = gateway.standIns.addImage('lent', other.id, { visibility: 'shared', sharedWith: [lab.id] });
    const begun = gateway.standIns.asked.filter(({ subject }) =>
      [imageUpdate.subject, imageDelete.subject].includes(subject),
    ).length;
    expect(code(await patch('lent', { name: 'mine' }))).toEqual([403, 'auth.forbidden']);
    expect(code(await gateway.ask('DELETE', `${at}/lent`, { token: member }))).toEqual([403, 'auth.forbidden']);
    expect(code(await gateway.ask('POST', `${at}/lent/upload`, { token: member }))).toEqual([403, 'auth.forbidden']);
    expect(
      gateway.standIns.asked.filter(({ subject }) => [imageUpdate.subject, imageDelete.subject].includes(subject)),
    ).toHaveLength(begun);
    const disk = await gateway.ask('POST', '/v1/projects/lab/disks', {
      token: member,
      body: { name: 'of-lent', image: 'lent' },
    });
    expect(await sentFor(diskCreate, disk)).toMatchObject({
      from: { kind: 'image', image: image.id },
      project: lab.id,
    });
  });

  it('has a lineage', async () => {
    gateway.standIns.addImage('root', lab.id);
    const answer = await gateway.ask('GET', `${at}/root/tree`, { token: member });
    expect([answer.status, answer.body]).toMatchObject([200, { items: [{ kind: 'image', name: 'root' }] }]);
  });

  it('is written to a volume, and what was written is removed when that is cancelled or fails', async () => {
    const image = gateway.standIns.addImage('golden-2', lab.id);
    const begin = () => gateway.ask('POST', `${at}/golden-2/export`, { token: member, body: { volume: 'pool/flat' } });
    expect(await sentFor(imageExportStart, await begin())).toMatchObject({
      image: image.id,
      volume: 'pool/flat',
      project: lab.id,
    });
    gateway.standIns.fail(imageExportShow, new M2Error('storage.full', 'The pool is full'));
    const { body } = await begin();
    expect(await gateway.ended(body as OperationBody)).toMatchObject({
      state: 'failed',
      error: { code: 'storage.full' },
    });
    expect(gateway.standIns.asked.at(-1)).toMatchObject({ subject: imageExportCancel.subject });
    expect(code(await gateway.ask('POST', `${at}/half/export`, { token: member, body: { volume: 'v' } }))).toEqual([
      409,
      'image.not_ready',
    ]);
  });
});
