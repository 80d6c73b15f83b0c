import type { Stage } from '@m2/cli';
import { beforeAll, describe, expect, it } from 'vitest';
import { discover, inquire, targetsOf } from '../iscsi.js';
import { bootScript, loginOf } from '../node-door.js';
import { boot, diskNamed, imageName, importImage, type Member, memberOf, takeBack } from '../story.js';

export function describeIsolation(started: () => Stage): void {
  describe('two nodes of two projects at once', () => {
    let stage: Stage;
    let members: Member[];

    beforeAll(async () => {
      stage = started();
      members = [await memberOf(stage, 'one'), await memberOf(stage, 'another')];
      await Promise.all(members.map((member) => importImage(stage, member)));
    });

    it('boot from disks that are apart', async () => {
      const provisions = await Promise.all(
        members.map((member, place) => {
          const { name } = stage.lab.nodes[place]!;
          // The same name: names are a project's own.
          return boot(stage, member, { node: name, image: imageName, diskName: 'root' });
        }),
      );
      const [a, b] = provisions.map(({ report }) => report);
      expect([a, b]).toEqual(
        [1, 2].map(() => expect.objectContaining({ boots: 1, root: expect.stringMatching(/^\/dev\/sd/) })),
      );
      expect(a?.['marker']).not.toBe(b?.['marker']);

      const disks = await Promise.all(members.map((member) => diskNamed(member, 'root')));
      const targets = await targetsOf(stage.state);
      const served = disks.map(({ volume }) => targets.filter(({ iqn }) => iqn.endsWith(`:${volume}`)));
      expect(served.map(({ length }) => length)).toEqual([1, 1]);
      expect(served[0]![0]!.tgtd).not.toBe(served[1]![0]!.tgtd);

      const logins = await Promise.all(
        stage.lab.nodes.map(async ({ mac }) => loginOf(stage, await bootScript(stage, mac))),
      );
      const [own, others] = logins as [(typeof logins)[number], (typeof logins)[number]];
      expect(own.portal).not.toBe(others.portal);
      for (const login of logins) expect(await inquire(login)).toMatch(/^Vendor:M2 *$/m);
      const { portal, iqn, initiator } = others;
      const unseen = [
        { ...own, portal },
        { ...own, portal, iqn },
      ];
      for (const login of unseen) await expect(inquire(login)).rejects.toThrow('Target not found');
      const unproven = [
        { ...own, portal, iqn, initiator },
        { ...others, user: own.user },
        { ...others, secret: own.secret },
      ];
      for (const login of unproven) await expect(inquire(login)).rejects.toThrow('Authentication failure');
      expect(await discover(own)).toContain(own.iqn);
      expect(await discover({ ...own, portal })).not.toContain('iqn.');

      await Promise.all(members.map((member, place) => takeBack(stage, member, provisions[place]!)));
      expect(await targetsOf(stage.state)).toEqual([]);
    });
  });
}
