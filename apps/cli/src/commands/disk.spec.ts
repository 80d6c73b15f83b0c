import { describe, expect, it } from 'vitest';
import { exitCodes } from '../exit-codes.js';
import { events, ids, operationOf, refuse, samples } from '../test/gateway.js';
import { accept, operationPath, start } from '../test/setup.js';

const disks = '/v1/projects/lab/disks';
const withDisk = async () => {
  const { gateway, person } = await start();
  gateway.on(operationPath, events(operationOf('succeeded', {}, { kind: 'disk.create', about: { disk: ids.disk } })));
  for (const path of ['web-1', 'new', ids.disk]) gateway.on(`GET ${disks}/${path}`, () => samples.disk);
  gateway.on(`GET ${disks}/web-1/tags`, () => ({ items: [samples.tag] }));
  return { gateway, person };
};

describe('m2 disk', () => {
  it.each([
    [
      ['create', 'new', '--image', 'debian', '--size', '20G'],
      'POST',
      '',
      { name: 'new', image: 'debian', sizeBytes: 20 * 2 ** 30 },
    ],
    [['create', 'new', '--disk', 'web-1', '--tag', 'v1'], 'POST', '', { name: 'new', disk: 'web-1', tag: 'v1' }],
    [['fork', 'web-1', 'new'], 'POST', '', { name: 'new', disk: 'web-1' }],
    [['fork', 'web-1', 'new', '--tag', 'v1'], 'POST', '', { name: 'new', disk: 'web-1', tag: 'v1' }],
    [['rename', 'web-1', 'new'], 'PATCH', '/web-1', { name: 'new' }],
    [['resize', 'web-1', '3G'], 'PATCH', '/web-1', { sizeBytes: 3 * 2 ** 30 }],
    [['flatten', 'web-1'], 'POST', '/web-1/flatten', undefined],
    [['tag', 'web-1', 'v2'], 'POST', '/web-1/tags', { name: 'v2' }],
    [['untag', 'web-1', 'v1'], 'DELETE', '/web-1/tags/v1', undefined],
    [['rollback', 'web-1', 'v1', '--yes'], 'POST', '/web-1/rollback', { tag: 'v1' }],
    [['restore', 'web-1'], 'POST', '/web-1/restore', {}],
    [['restore', 'web-1', '--name', 'new'], 'POST', '/web-1/restore', { name: 'new' }],
  ])('%j asks for it', async (args, method, path, body) => {
    const { gateway, person } = await withDisk();
    gateway.on(`${method} ${disks}${path}`, accept);
    const { code, err } = await person.m2(['disk', ...args]);
    expect([code, err.includes('error')]).toEqual([0, false]);
    expect(gateway.asked(`${method} ${disks}${path}`).map((seen) => seen.body)).toEqual([body]);
  });

  it('snapshot makes an image', async () => {
    const { gateway, person } = await withDisk();
    gateway.on('POST /v1/projects/lab/images', accept).on('GET /v1/projects/lab/images/golden', () => samples.image);
    expect((await person.m2(['disk', 'snapshot', 'web-1', 'golden', '--tag', 'v1'])).code).toBe(0);
    expect(gateway.asked('POST /v1/projects/lab/images')[0]?.body).toEqual({
      name: 'golden',
      source: { kind: 'disk', disk: 'web-1', tag: 'v1' },
    });
  });

  it('delete puts it into the trash and says how to take it back, unless it is purged', async () => {
    const { gateway, person } = await withDisk();
    gateway.on(`DELETE ${disks}/web-1`, (_seen, response) => accept(_seen, response));
    const { err } = await person.m2(['disk', 'delete', 'web-1', '--yes']);
    expect(err).toMatch(/m2 disk restore \S+\n$/);
    expect((await person.m2(['disk', 'delete', 'web-1', '--yes', '--purge'])).err).not.toContain('restore');
    expect(gateway.asked(`DELETE ${disks}/web-1`).map(({ query }) => query.get('purge'))).toEqual(['false', 'true']);
  });

  it('delete --purge looks into the trash too, before it asks', async () => {
    const { gateway, person } = await start(true);
    gateway.on(`GET ${disks}`, () => ({ items: [{ ...samples.disk, name: 'gone', state: 'trashed' }] }));
    for (const name of ['gone', 'nothing']) gateway.on(`GET ${disks}/${name}`, refuse('disk.not_found', name));
    const { code, out } = await person.m2(['disk', 'delete', 'gone', '--purge', '--dry-run']);
    expect([code, out]).toEqual([0, 'would delete disk gone (2 GiB) and its data\n']);
    expect((await person.m2(['disk', 'delete', 'nothing', '--purge', '--dry-run'])).code).not.toBe(0);
  });

  it('rollback asks first, and knows the tag', async () => {
    const { gateway, person } = await withDisk();
    gateway.on(`POST ${disks}/web-1/rollback`, accept);
    expect((await person.m2(['disk', 'rollback', 'web-1', 'v1'])).code).toBe(exitCodes.usage);
    const unknown = await person.m2(['disk', 'rollback', 'web-1', 'v9', '--dry-run']);
    expect([unknown.code, unknown.err.includes('m2 disk tags web-1')]).toEqual([exitCodes.notFound, true]);
    expect(gateway.asked(`POST ${disks}/web-1/rollback`)).toEqual([]);
  });

  it.each([
    [['create', 'new']],
    [['create', 'new', '--image', 'a', '--disk', 'b']],
    [['create', 'new', '--image', 'a', '--tag', 'v1']],
    [['resize', 'web-1', 'big']],
    [['download', 'web-1', 'f', '--since', 'v1']],
  ])('%j is no way to say it', async (args) => {
    const { gateway, person } = await withDisk();
    expect((await person.m2(['disk', ...args])).code).toBe(exitCodes.usage);
    expect(gateway.seen).toEqual([]);
  });
});
