import { namespacesIn } from '@m2/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestInstallation, succeeded } from '../installation.js';
import { cephOf } from './observed-ceph.js';

/** What Ceph keeps for a project apart from its disks: a namespace and a user. */
export function describeProjects(installation: () => TestInstallation): void {
  const image = () => installation().killSwitch('image');
  const ceph = () => cephOf(installation());
  const namespaces = () => namespacesIn(ceph(), ceph().diskPool);
  const users = async () => [...(await ceph().ceph('auth', 'ls')).matchAll(/^client\.m2\.(.+)$/gm)].map(([, id]) => id);
  const share = async (visibility: 'public' | 'private') => {
    const { client, stage } = installation();
    const params = { project: stage.project, image: 'golden' };
    await succeeded(installation(), await client.call('imageUpdate', { params, body: { visibility } }));
  };
  beforeAll(() => share('public'));
  afterAll(() => share('private'));

  describe.each([
    { creation: 'namespaceCreate', removal: 'namespaceRemove', phase: 'answered' },
    { creation: 'monCommand', removal: 'monCommand', phase: 'asked' },
  ])('image-svc is killed when $creation or $removal was $phase', ({ creation, removal, phase }) => {
    const kill = (operation: string) => image().arm({ channel: 'm2:rbd', at: { operation, phase } });

    it('and a project has its first disk, and goes with all that was made for it', async () => {
      const { client } = installation();
      const before = [await namespaces(), await users()];
      const { id: project } = await client.call('projectCreate', {
        body: { name: `project-${creation}-${phase}`.toLowerCase() },
      });
      kill(creation);
      const body = { name: 'first', image: 'golden' };
      await succeeded(installation(), await client.call('diskCreate', { params: { project }, body }));
      expect(image().struck).toBe(true);
      expect([await namespaces(), await users()].every((list) => list.includes(project))).toBe(true);
      const purge = client.call('diskDelete', { params: { project, disk: 'first' }, query: { purge: 'true' } });
      await succeeded(installation(), await purge);
      kill(removal);
      await client.call('projectDelete', { params: { project } });
      // The event that says so comes again half a minute later.
      await expect.poll(async () => [await namespaces(), await users()], { timeout: 120_000 }).toEqual(before);
      expect(image().struck).toBe(true);
    });
  });
}
