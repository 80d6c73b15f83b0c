import { describe, expect, it } from 'vitest';
import { exitCodes } from '../exit-codes.js';
import { events, ids, json, operationOf, refuse, samples } from '../test/gateway.js';
import { accept, operationPath, start } from '../test/setup.js';

const images = 'POST /v1/projects/lab/images';
const debian = '/v1/projects/lab/images/debian';
const withImage = async () => {
  const { gateway, person } = await start();
  const done = operationOf('succeeded', {}, { kind: 'image.import', about: { image: ids.image } });
  gateway.on(images, (_seen, response) => accept(_seen, response)).on(operationPath, events(done));
  for (const path of [debian, `/v1/projects/lab/images/${ids.image}`, '/v1/projects/lab/images/new'])
    gateway.on(`GET ${path}`, () => samples.image);
  gateway.on(`PATCH ${debian}`, accept);
  return { gateway, person, body: (line: string) => gateway.asked(line).at(-1)?.body };
};

describe('m2 image import', () => {
  it.each([
    [['--url', 'https://h/x.vmdk', '--format', 'vmdk'], { kind: 'url', url: 'https://h/x.vmdk' }],
    [['--volume', 'pool/golden@v1'], { kind: 'volume', volume: 'pool/golden@v1' }],
    [['--file', '/srv/a.raw'], { kind: 'file', path: '/srv/a.raw' }],
    [['--from-disk', 'web-1'], { kind: 'disk', disk: 'web-1' }],
    [['--from-disk', 'web-1', '--tag', 'v1'], { kind: 'disk', disk: 'web-1', tag: 'v1' }],
  ])('%j says so', async (args, source) => {
    const { person, body } = await withImage();
    expect((await person.m2(['image', 'import', 'new', ...args])).code).toBe(0);
    expect(body(images)).toMatchObject({ name: 'new', source });
  });

  it('tells what is in the image', async () => {
    const { person, body } = await withImage();
    const args = ['--os', 'Debian 13', '--arch', 'x86_64', '--default-user', 'debian', '--user-data'];
    await person.m2(['image', 'import', 'new', '--file', '/a', ...args]);
    expect(body(images)).toMatchObject({
      metadata: { operatingSystem: 'Debian 13', architecture: 'x86_64', defaultUser: 'debian', userData: true },
    });
  });

  it.each([
    [['--file', 'a', '--upload', 'b']],
    [['--volume', 'a', '--from-disk', 'b']],
    [['--url', 'http://a/', '--tag', 'v1']],
    [['--tag', 'v1']],
    [['--upload', 'not-there']],
    [['--upload', '.']],
  ])('%j is no way to say it', async (args) => {
    const { gateway, person } = await withImage();
    expect((await person.m2(['image', 'import', 'new', ...args])).code).not.toBe(0);
    expect(gateway.asked(images)).toEqual([]);
  });
});

describe('m2 image copy', () => {
  it.each([
    [[], 'lab', undefined],
    [['--from-project', 'other'], 'lab', 'other'],
    [['--to-project', 'other'], 'other', 'lab'],
  ])('%j copies from where to where', async (args, to, from) => {
    const { gateway, person } = await withImage();
    gateway.on(`POST /v1/projects/${to}/images`, accept);
    gateway.on(`GET /v1/projects/${to}/images/new`, () => samples.image);
    expect((await person.m2(['image', 'copy', 'debian', 'new', ...args])).code).toBe(0);
    expect(gateway.asked(`POST /v1/projects/${to}/images`)[0]?.body).toEqual({
      name: 'new',
      source: { kind: 'image', image: 'debian', ...(from && { project: from }) },
    });
  });
});

describe('a change of an image', () => {
  it.each([
    [['rename', 'debian', 'new'], { name: 'new' }],
    [['share', 'debian', '--with', 'a', 'b'], { visibility: 'shared', sharedWith: ['a', 'b'] }],
    [['share', 'debian', '--public'], { visibility: 'public' }],
    [['share', 'debian', '--private'], { visibility: 'private', sharedWith: [] }],
    [['set', 'debian', '--os', ''], { metadata: { operatingSystem: null } }],
    [['set', 'debian', '--no-user-data', '--arch', 'arm64'], { metadata: { userData: false, architecture: 'arm64' } }],
  ])('%j is asked for', async (args, expected) => {
    const { person, body } = await withImage();
    const { code, out } = await person.m2(['image', ...args]);
    expect([code, body(`PATCH ${debian}`)]).toEqual([0, expected]);
    expect(out).toMatch(/^name +debian$/m);
  });

  it('to another project is shown there', async () => {
    const { gateway, person, body } = await withImage();
    gateway.on(`GET /v1/projects/other/images/${ids.image}`, () => samples.image);
    const accepted = operationOf('running', {}, { kind: 'image.update', about: { image: ids.image } });
    gateway.on(`PATCH ${debian}`, (_seen, response) => json(response, 202, accepted));
    expect((await person.m2(['image', 'move', 'debian', 'other'])).code).toBe(0);
    expect(body(`PATCH ${debian}`)).toEqual({ project: 'other' });
    gateway.on(`PATCH ${debian}`, refuse('auth.forbidden', 'Only an operator moves an image'));
    expect((await person.m2(['image', 'move', 'debian', 'other'])).code).toBe(exitCodes.notAuthorised);
  });

  it.each([[['share', 'debian']], [['set', 'debian']], [['share', 'debian', '--public', '--private']]])(
    '%j says too little, or too much',
    async (args) => {
      const { person } = await withImage();
      expect((await person.m2(['image', ...args])).code).toBe(exitCodes.usage);
    },
  );
});

describe('m2 image export', () => {
  it('names the volume', async () => {
    const { gateway, person, body } = await withImage();
    gateway.on(`POST ${debian}/export`, accept);
    expect((await person.m2(['image', 'export', 'debian', 'pool/flat'])).code).toBe(0);
    expect(body(`POST ${debian}/export`)).toEqual({ volume: 'pool/flat' });
  });
});
