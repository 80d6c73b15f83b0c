import { describe, expect, it } from 'vitest';
import { ids, operationOf, refuse, samples } from '../test/gateway.js';
import { Person } from '../test/person.js';
import { operationPath, start } from '../test/setup.js';

const colourful = async (env: Record<string, string>, terminal: boolean) =>
  (await new Person({ env, terminal }).m2(['node', 'list'])).err.includes('\u001b[31m');

describe('output', () => {
  it.each([
    [['whoami'], 'GET /v1/whoami', samples.whoami],
    [['project', 'list'], 'GET /v1/projects', { items: [samples.project] }],
    [['project', 'show', 'lab'], 'GET /v1/projects/lab', samples.project],
    [['image', 'list'], 'GET /v1/projects/lab/images', { items: [samples.image] }],
    [['image', 'show', 'debian'], 'GET /v1/projects/lab/images/debian', samples.image],
    [['disk', 'list'], 'GET /v1/projects/lab/disks', { items: [samples.disk] }],
    [['disk', 'show', 'web-1'], 'GET /v1/projects/lab/disks/web-1', samples.disk],
    [['image', 'tree', 'debian'], 'GET /v1/projects/lab/images/debian/tree', { items: [] }],
    [['disk', 'tags', 'web-1'], 'GET /v1/projects/lab/disks/web-1/tags', { items: [samples.tag] }],
    [['disk', 'trash'], 'GET /v1/projects/lab/disks', { items: [samples.disk] }],
    [['quota', 'show'], 'GET /v1/projects/lab/quota', samples.quota],
    [['fsck'], 'GET /v1/storage/check', { items: [] }],
    [['node', 'list'], 'GET /v1/nodes', { items: [samples.node] }],
    [['node', 'show', 'node-1'], 'GET /v1/nodes/node-1', samples.node],
    [['node', 'power', 'node-1'], 'GET /v1/nodes/node-1/power', { power: 'on' }],
    [['provision', 'list'], 'GET /v1/projects/lab/provisions', { items: [samples.provision] }],
    [['provision', 'show', ids.provision], `GET /v1/projects/lab/provisions/${ids.provision}`, samples.provision],
    [['operation', 'list'], 'GET /v1/operations', { items: [operationOf('succeeded')] }],
    [['operation', 'show', ids.operation], operationPath, operationOf('succeeded', { 'clone-disk': 'done' })],
  ])('%j --json is what the API said and nothing else', async (args, line, answer) => {
    const { gateway, person } = await start();
    gateway.on(line, () => answer);
    const { code, out, err } = await person.m2([...args, '--json']);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(JSON.parse(out)).toEqual(answer);
    // The option is understood before the words, too.
    expect((await person.m2(['--json', ...args])).out).toBe(out);
  });

  it('shows people names where the API has identifiers', async () => {
    const { gateway, person } = await start();
    gateway.on('GET /v1/projects/lab/disks', () => ({ items: [samples.disk] }));
    gateway.on('GET /v1/projects/lab/images', () => ({ items: [samples.image] }));
    const { out } = await person.m2(['disk', 'list']);
    expect(out).toMatch(/^NAME +STATE +SIZE +FROM +HELD BY +CREATED\nweb-1 +ready +2 GiB +debian +- +\d+ \w+ ago\n$/);
  });

  it('names what one thing comes from, who holds it, and whom it is for', async () => {
    const { gateway, person } = await start();
    const of = (path: string) => `GET /v1/projects/${ids.project}/${path}`;
    const fork = { ...samples.disk, image: null, fork: { disk: ids.disk, tag: ids.tag }, holder: ids.provision };
    gateway
      .on(`GET /v1/projects/${ids.project}`, () => samples.project)
      .on(of(`images/${ids.image}`), () => samples.image)
      .on(of(`disks/${ids.disk}`), () => samples.disk)
      .on(of(`disks/${ids.disk}/tags`), () => ({ items: [samples.tag] }))
      .on(of(`provisions/${ids.provision}`), () => samples.provision)
      .on('GET /v1/projects/lab/images', () => ({ items: [] }))
      .on('GET /v1/projects/lab/provisions', () => ({ items: [samples.provision] }))
      .on('GET /v1/projects/lab/disks', () => ({ items: [fork] }))
      .on('GET /v1/projects/lab/disks/web-1', () => samples.disk)
      .on('GET /v1/projects/lab/disks/web-2', () => fork)
      .on('GET /v1/projects/lab/images/copy', () => ({
        ...samples.image,
        visibility: 'shared',
        sharedWith: [ids.project],
        parent: { kind: 'image', id: ids.image },
      }))
      .on(`GET /v1/projects/lab/provisions/${ids.provision}`, () => samples.provision)
      .on('GET /v1/nodes/node-1', () => ({
        ...samples.node,
        project: ids.project,
        holder: ids.provision,
        holderProject: ids.project,
      }))
      .on('GET /v1/whoami', () => ({ ...samples.whoami, role: 'member', project: ids.project }));
    const show = async (...args: string[]) => (await person.m2(args)).out;
    expect(await show('disk', 'show', 'web-1')).toMatch(/^image +debian$/m);
    expect(await show('disk', 'show', 'web-2')).toMatch(/^forked from +disk web-1, tag v1$/m);
    expect(await show('disk', 'show', 'web-2')).toMatch(/^held by +node-1 \(provision 0198/m);
    expect(await show('disk', 'list')).toMatch(/ node-1 +\d+ \w+ ago$/m);
    expect(await show('image', 'show', 'copy')).toMatch(/^for +shared: lab$/m);
    expect(await show('image', 'show', 'copy')).toMatch(/^made from +image debian$/m);
    expect(await show('provision', 'show', ids.provision)).toMatch(/^image +debian$/m);
    expect(await show('node', 'show', 'node-1')).toMatch(/^only for +lab$/m);
    expect(await show('node', 'show', 'node-1')).toMatch(/^held by +provision \S+ of project lab$/m);
    expect(await show('whoami')).toMatch(/^project +lab$/m);
  });

  it('shows the identifier of what is gone, or is not for the one who asks', async () => {
    const { gateway, person } = await start();
    gateway.on('GET /v1/projects/lab/disks/web-1', () => samples.disk);
    const { code, out } = await person.m2(['disk', 'show', 'web-1']);
    expect(code).toBe(0);
    expect(out).toContain(ids.image);
  });

  it('shows where a clone comes from, and whose an image is', async () => {
    const { gateway, person } = await start();
    const fork = { ...samples.disk, id: ids.node, name: 'web-2', image: null, fork: { disk: ids.disk, tag: ids.tag } };
    const flat = { ...samples.disk, id: ids.tag, name: 'web-3', image: null };
    const foreign = { ...samples.image, id: ids.node, name: 'lent', project: ids.node, visibility: 'public' };
    gateway.on('GET /v1/projects/lab/disks', () => ({ items: [samples.disk, fork, flat] }));
    gateway.on('GET /v1/projects/lab/images', () => ({ items: [samples.image, foreign] }));
    gateway.on('GET /v1/projects', () => ({ items: [samples.project] }));
    const disks = (await person.m2(['disk', 'list'])).out;
    expect(disks).toMatch(/^web-2 .* disk web-1 /m);
    expect(disks).toMatch(/^web-3 +ready +2 GiB +- /m);
    const images = (await person.m2(['image', 'list'])).out;
    expect(images).toMatch(/^debian .* private +lab /m);
    expect(images).toMatch(new RegExp(`^lent .* public +${ids.node} `, 'm'));
  });

  it('draws what comes from what', async () => {
    const { gateway, person } = await start();
    const thing = (id: string, kind: string, parent: string | null, more = {}) => {
      return { id, kind, name: `${kind}-1`, parent, sizeBytes: 2 ** 30, state: 'ready', ...more };
    };
    gateway.on('GET /v1/projects/lab/images/debian/tree', () => ({
      items: [
        thing(ids.image, 'image', ids.project),
        thing(ids.disk, 'disk', ids.image),
        thing(ids.tag, 'tag', ids.disk, { sizeBytes: null }),
        thing(ids.node, 'disk', ids.tag, { name: 'gone', state: 'trashed' }),
        thing(ids.provision, 'disk', ids.image, { name: 'disk-2' }),
      ],
    }));
    expect((await person.m2(['image', 'tree', 'debian'])).out).toBe(
      [
        'image image-1, 1 GiB',
        '├─ disk disk-1, 1 GiB',
        '│  └─ tag tag-1',
        '│     └─ disk gone, 1 GiB, trashed',
        '└─ disk disk-2, 1 GiB',
        '',
      ].join('\n'),
    );
  });

  it('keeps escape sequences from the terminal', async () => {
    const { gateway, person } = await start();
    const report = { hostname: '\u001b]0;owned\u0007\u001b[2J' };
    gateway.on(`GET /v1/projects/lab/provisions/${ids.provision}`, () => ({ ...samples.provision, report }));
    gateway.on('GET /v1/whoami', refuse('auth.forbidden', 'a\u001b[31mb\u202e'));
    expect((await person.m2(['provision', 'show', ids.provision])).out).not.toContain('\u001b');
    const { err } = await person.m2(['whoami']);
    expect(err).toContain('a [31mb');
    for (const evil of ['\u001b', '\u202e']) expect(err).not.toContain(evil);
  });

  it('colours the screen of a terminal only, and not with NO_COLOR', async () => {
    expect(await colourful({}, true)).toBe(true);
    expect(await colourful({}, false)).toBe(false);
    expect(await colourful({ NO_COLOR: '1' }, true)).toBe(false);
  });
});
