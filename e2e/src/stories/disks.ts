import type { Stage } from '@m2/cli';
import { beforeAll, describe, expect, it } from 'vitest';
import { firstBootsFile, apiCallsOf } from '../disks.js';
import { boot, imageName, importImage, type Member, memberOf, takeBack } from '../story.js';

export function describeDisks(started: () => Stage): void {
  describe('disks in files', () => {
    let stage: Stage;
    let member: Member;

    beforeAll(async () => {
      stage = started();
      member = await memberOf(stage, 'disks');
      await importImage(stage, member);
    });

    it('are tagged and forked under a node, and go back to what they were', async () => {
      const api = apiCallsOf(stage, member);
      const first = await boot(stage, member, { node: 'node-1', image: imageName, diskName: 'd1' });
      const marker = first.report?.['marker'];
      await api.tag('d1', 'used');
      await takeBack(stage, member, first);
      const second = await boot(stage, member, { node: 'node-1', disk: 'd1' });
      expect(second.report).toMatchObject({ boots: 2, marker });
      await api.create({ name: 'fork', disk: 'd1' });
      await expect(api.rollback('d1', 'used')).rejects.toMatchObject({ code: 'disk.in_use' });
      await takeBack(stage, member, second);

      await api.rollback('d1', 'used');
      const [forked, back] = await Promise.all([
        boot(stage, member, { node: 'node-2', disk: 'fork' }),
        boot(stage, member, { node: 'node-1', disk: 'd1' }),
      ]);
      expect(forked.report).toMatchObject({ boots: 3, marker });
      expect(await firstBootsFile(stage, 'node-2')).toBe('gone');
      expect(back.report).toMatchObject({ boots: 2, marker });
      expect(await firstBootsFile(stage, 'node-1')).toBe('there');
      await takeBack(stage, member, forked, 'delete');
      await takeBack(stage, member, back, 'delete');
      expect(await stage.client.call('storageCheck')).toEqual({ items: [] });
    });
  });
}
