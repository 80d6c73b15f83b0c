import { describe, expect, it } from 'vitest';
import { exitCodes } from './exit-codes.js';
import { events, ids, operationOf, samples } from './test/gateway.js';
import { accept, operationPath, start } from './test/setup.js';

const withDisk = async (terminal: boolean) => {
  const { gateway, person } = await start(terminal);
  gateway.on('GET /v1/projects/lab/disks/web-1', () => samples.disk);
  gateway.on('DELETE /v1/projects/lab/disks/web-1', accept);
  gateway.on(operationPath, events(operationOf('succeeded', {}, { kind: 'disk.delete' })));
  return { gateway, person, deletes: () => gateway.asked('DELETE /v1/projects/lab/disks/web-1').length };
};

describe('what destroys', () => {
  it('asks a person, and does what they say', async () => {
    const { person, deletes } = await withDisk(true);
    const no = await person.m2(['disk', 'delete', 'web-1'], 'n\n');
    expect(no).toMatchObject({ code: exitCodes.failed, out: '' });
    expect(no.err).toContain('Put disk web-1 (2 GiB) into the trash, where it can be restored from for a while? [y/N]');
    expect(deletes()).toBe(0);
    expect((await person.m2(['disk', 'delete', 'web-1'], 'y\n')).code).toBe(0);
    expect(deletes()).toBe(1);
  });

  it('does not ask with --yes', async () => {
    const { person, deletes } = await withDisk(false);
    expect((await person.m2(['disk', 'delete', 'web-1', '--yes'])).code).toBe(0);
    expect(deletes()).toBe(1);
  });

  it('does nothing with --dry-run, whatever else is said', async () => {
    const { gateway, person, deletes } = await withDisk(true);
    const free = await person.m2(['disk', 'delete', 'web-1', '--dry-run', '--yes', '--purge']);
    expect(free).toMatchObject({ code: 0, out: 'would delete disk web-1 (2 GiB) and its data\n' });
    const trashing = await person.m2(['disk', 'delete', 'web-1', '--dry-run']);
    expect(trashing.out).toMatch(/^would put disk web-1 \(2 GiB\) into the trash, /);
    gateway.on('GET /v1/projects/lab/disks/web-1', () => ({ ...samples.disk, holder: ids.provision }));
    const used = await person.m2(['disk', 'delete', 'web-1', '--dry-run', '--json']);
    expect(JSON.parse(used.out)).toMatchObject({ dryRun: true, usedBy: [`provision ${ids.provision}`] });
    expect(deletes()).toBe(0);
  });

  it.each([
    [['image', 'delete', 'debian'], 'disk web-1'],
    [['project', 'delete', 'lab'], 'provision of node-1'],
    [['node', 'remove', 'node-1'], 'would delete node node-1'],
    [['disk', 'rollback', 'web-1', 'v1'], 'would roll back disk web-1 to its tag v1 ('],
    [['deprovision', 'node-1', '--delete-disk'], 'disk web-1 (2 GiB) and its data'],
    [['deprovision', 'node-1'], 'is kept'],
  ])('%j can be tried without consequences', async (args, says) => {
    const { gateway, person } = await start();
    gateway.on('GET /v1/projects/lab', () => samples.project);
    gateway.on('GET /v1/projects/lab/images', () => ({ items: [samples.image] }));
    gateway.on('GET /v1/projects/lab/images/debian', () => samples.image);
    gateway.on('GET /v1/projects/lab/disks', () => ({ items: [samples.disk] }));
    gateway.on(`GET /v1/projects/lab/disks/${ids.disk}`, () => samples.disk);
    gateway.on('GET /v1/projects/lab/disks/web-1', () => samples.disk);
    gateway.on('GET /v1/projects/lab/disks/web-1/tags', () => ({ items: [samples.tag] }));
    gateway.on('GET /v1/nodes/node-1', () => samples.node);
    gateway.on('GET /v1/projects/lab/provisions', () => ({ items: [samples.provision] }));
    const { code, out } = await person.m2([...args, '--dry-run']);
    expect(code).toBe(0);
    expect(out).toContain(says);
    expect(gateway.seen.every(({ method }) => method === 'GET')).toBe(true);
  });
});
