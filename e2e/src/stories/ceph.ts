import type { Stage } from '@m2/cli';
import type { Disk, Provision } from '@m2/contracts';
import { imageObjects, imagesIn, type LabCeph, namespacesIn } from '@m2/lab';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { firstBootsFile, apiCallsOf } from '../disks.js';
import { inquire, targetsOf } from '../iscsi.js';
import { mountsWith, processesWith } from '../leftovers.js';
import { bootScript, loginOf } from '../node-door.js';
import { boot, diskNamed, imageName, importImage, type Member, memberOf, takeBack } from '../story.js';

/** Each test goes on where the one before it ended. The first imports the image, for all projects. */
export function describeCeph(started: () => Stage): void {
  describe('nodes that boot from Ceph', () => {
    let stage: Stage;
    let ceph: LabCeph;
    let member: Member;
    let api: ReturnType<typeof apiCallsOf>;
    let golden: string[];
    let goldenObjects: string[];
    let first: Provision;
    let disk: Disk;

    beforeAll(async () => {
      stage = started();
      ceph = stage.ceph!;
      member = await memberOf(stage, 'tenant');
      api = apiCallsOf(stage, member);
    });

    const placeOf = ({ project, volume }: Disk) => `${ceph.diskPool}/${project}/${volume}`;
    const daemons = async () =>
      (await processesWith(join(stage.state, 'targets/rbd'))).filter((line) => line.includes('qemu-storage-daemon'));

    it('have a golden image with one protected snapshot, which another project shares', async () => {
      const { client, project } = stage;
      await importImage(stage, { client, project });
      golden = await imagesIn(ceph);
      expect(golden).toEqual([
        expect.stringMatching(new RegExp(`^${ceph.imagePool}/[a-z0-9]+img1$`)),
        expect.stringMatching(/img1@golden, protected$/),
      ]);
      goldenObjects = await imageObjects(ceph);
      const body = { visibility: 'public' as const };
      const { id } = await client.call('imageUpdate', { params: { project, image: imageName }, body });
      await expect
        .poll(async () => (await client.call('operationShow', { params: { id } })).state, { timeout: 60_000 })
        .toBe('succeeded');
    });

    it('run Linux from a clone in a namespace of their project, with CHAP', async () => {
      first = await boot(stage, member, { node: 'node-1', image: imageName, diskName: 'd1' });
      expect(first).toMatchObject({ state: 'booted', report: { boots: 1, root: expect.stringMatching(/^\/dev\/sd/) } });
      disk = await diskNamed(member, 'd1');
      expect(await imagesIn(ceph)).toEqual([placeOf(disk), ...golden]);
      expect(await namespacesIn(ceph, ceph.diskPool)).toEqual([disk.project]);
      expect((await daemons()).length).toBe(1);
      const login = loginOf(stage, await bootScript(stage, stage.lab.nodes[0]!.mac));
      expect(await inquire(login)).toMatch(/^Vendor:M2 *$/m);
      await expect(inquire({ ...login, secret: 'another-secret' })).rejects.toThrow('Authentication failure');
    });

    it('are tagged, and copied to an image of their own, while they work', async () => {
      await api.tag('d1', 'used');
      await api.snapshot('d1', 'used-image');
      const images = await imagesIn(ceph);
      expect(images.filter((name) => name.endsWith('@golden, protected')).length).toBe(2);
      expect(images.filter((name) => name.startsWith(`${placeOf(disk)}@`)).length).toBe(1);
    });

    it('find in a copy of a used disk what was on it', async () => {
      await takeBack(stage, member, first);
      const [copied, again] = await Promise.all([
        boot(stage, member, { node: 'node-2', image: 'used-image', diskName: 'of-the-image' }),
        boot(stage, member, { node: 'node-1', disk: 'd1' }),
      ]);
      const marker = first.report?.['marker'];
      expect(copied.report).toMatchObject({ boots: 2, marker });
      expect(again.report).toMatchObject({ boots: 2, marker });
      expect(await firstBootsFile(stage, 'node-2')).toBe('there');
      // Both disks of the project are behind one process.
      expect((await daemons()).length).toBe(1);
      await takeBack(stage, member, copied, 'delete');
      first = again;
    });

    it('boot from a fork of a disk that another one worked with, and have a deleted file again after a rollback', async () => {
      await api.create({ name: 'fork', disk: 'd1' });
      await expect(api.rollback('d1', 'used')).rejects.toMatchObject({ code: 'disk.in_use' });
      await takeBack(stage, member, first);
      await api.rollback('d1', 'used');
      expect((await diskNamed(member, 'd1')).volume).not.toBe(disk.volume);
      const provisions = await Promise.all([
        boot(stage, member, { node: 'node-2', disk: 'fork' }),
        boot(stage, member, { node: 'node-1', disk: 'd1' }),
      ]);
      const marker = first.report?.['marker'];
      expect(provisions.map(({ report }) => report)).toMatchObject([
        { boots: 3, marker },
        { boots: 2, marker },
      ]);
      expect(await firstBootsFile(stage, 'node-2')).toBe('gone');
      expect(await firstBootsFile(stage, 'node-1')).toBe('there');
      await Promise.all(provisions.map((provision) => takeBack(stage, member, provision)));
    });

    it('leave nothing in Ceph, and nothing on this machine', async () => {
      expect(await targetsOf(stage.state)).toEqual([]);
      await expect.poll(daemons).toEqual([]);
      expect(await mountsWith(join(stage.state, 'targets'))).toEqual([]);

      await expect(api.purge('d1')).rejects.toThrow('tag.in_use');
      await api.purge('fork');
      await api.purge('d1');
      await api.deleteImage('used-image');
      expect(await stage.client.call('storageCheck')).toEqual({ items: [] });
      await expect.poll(() => imagesIn(ceph), { timeout: 60_000 }).toEqual(golden);
      // The OSD takes removed snapshots away in its own time.
      await expect.poll(() => imageObjects(ceph), { timeout: 60_000 }).toEqual(goldenObjects);

      const users = async () =>
        [...(await ceph.ceph('auth', 'ls')).matchAll(/^client\.m2\..+$/gm)].map(([user]) => user);
      expect(await users()).toEqual([`client.m2.${disk.project}`]);
      await stage.client.call('projectDelete', { params: { project: member.project } });
      await expect.poll(() => namespacesIn(ceph, ceph.diskPool), { timeout: 60_000 }).toEqual([]);
      await expect.poll(users, { timeout: 60_000 }).toEqual([]);
    });
  });
}
