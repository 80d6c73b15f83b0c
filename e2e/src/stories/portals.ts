import type { Stage } from '@m2/cli';
import type { Disk, Provision } from '@m2/contracts';
import { imagesIn } from '@m2/lab';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { discover, inquire } from '../iscsi.js';
import { mountsWith, processesWith } from '../leftovers.js';
import { bootScript, loginOf } from '../node-door.js';
import { closePortal, firstHost, type PortalHost, startSecondHost, tgtdsOf } from '../portal-hosts.js';
import { boot, diskNamed, imageName, type Member, memberOf, takeBack } from '../story.js';

/** A host that is away is missed after seconds; one that is back finds out what it has to do with its next round. */
const patience = { timeout: 60_000 };

/** Each test goes on where the one before it ended. The image is everybody's already; the first host is `host-a`. */
export function describePortals(started: () => Stage): void {
  describe('a disk that two hosts export', () => {
    let stage: Stage;
    let member: Member;
    let golden: string[];
    let first: PortalHost;
    let second: Awaited<ReturnType<typeof startSecondHost>>;
    let provision: Provision;
    let marker: unknown;
    let disk: Disk;

    beforeAll(async () => {
      stage = started();
      first = firstHost(stage);
      second = await startSecondHost(stage);
      member = await memberOf(stage, 'two-hosts');
      golden = await imagesIn(stage.ceph!);
    });

    afterAll(async () => {
      // Also when a test failed in between: nothing is left to look after these.
      await first?.comeBack();
      await second?.stop();
    });

    const node = () => stage.lab.nodes[0]!;
    const scriptOf = () => bootScript(stage, node().mac);
    /** The ports of the disk's portals, in the order in which the node tries them. */
    const portalsOf = (script: string) =>
      [...script.matchAll(/^sanboot \S+ \S+ iscsi:10\.0\.2\.2::(\d+):1:/gm)].map(([, port]) => Number(port));
    const portOf = async (host: PortalHost) => (await tgtdsOf(host)).map(({ port }) => port);
    const at = (port: number) => `${stage.running.settings.provisioningAddress}:${port}`;
    /** Boots the node from its disk again, after what it had was taken back. */
    const bootAgain = async () => {
      await takeBack(stage, member, provision);
      provision = await boot(stage, member, { node: 'node-1', disk: 'd1' });
      return provision.report;
    };
    const untilBoth = () =>
      vi.waitUntil(async () => {
        const ports = [...(await portOf(first)), ...(await portOf(second))];
        return ports.length === 2 && portalsOf(await scriptOf()).join() === ports.join();
      }, patience);

    it('has a portal on each, which lets the same node in', async () => {
      provision = await boot(stage, member, { node: 'node-1', image: imageName, diskName: 'd1' });
      expect(provision.report).toMatchObject({ boots: 1, marker: expect.stringMatching(/./) });
      marker = provision.report?.['marker'];
      disk = await diskNamed(member, 'd1');
      const script = await scriptOf();
      const ports = portalsOf(script);
      expect(ports).toEqual([...(await portOf(first)), ...(await portOf(second))]);
      expect(ports.length).toBe(2);
      const login = loginOf(stage, script);
      for (const portal of ports.map(at)) {
        expect(await inquire({ ...login, portal })).toMatch(/^Vendor:M2 *$/m);
        await expect(inquire({ ...login, portal, secret: 'another-secret' })).rejects.toThrow('Authentication failure');
      }
    });

    it('boots through the second when the first is down, that the node had worked with', async () => {
      await first.die();
      expect(await bootAgain()).toMatchObject({ boots: 2, marker });
      expect(portalsOf(await scriptOf())).toEqual(await portOf(second));
    });

    it('boots through the first when that is back and the second is down', async () => {
      await first.comeBack();
      await untilBoth();
      await second.die();
      expect(await bootAgain()).toMatchObject({ boots: 3, marker });
      expect(portalsOf(await scriptOf())).toEqual(await portOf(first));
    });

    it('boots through the second when the first, which the node asks first, turns it away', async () => {
      await second.comeBack();
      await untilBoth();
      const openPortal = await closePortal(stage, first);
      const serial = async () => (await readFile(node().serialLog, 'utf8')).replaceAll('\r', '');
      try {
        const before = (await serial()).length;
        const { address, port, user, password } = node().bmc;
        const args = ['-I', 'lanplus', '-C', '3', '-H', address, '-p', String(port), '-U', user, '-E'];
        const env = { PATH: process.env['PATH'], IPMI_PASSWORD: password };
        await promisify(execFile)('ipmitool', [...args, 'chassis', 'power', 'reset'], { env, timeout: 60_000 });
        const booted = `m2-node: boot 4 of disk ${marker as string}`;
        await vi.waitUntil(async () => (await serial()).slice(before).includes(booted), { timeout: 240_000 });
        expect((await serial()).slice(before)).toContain('M2: no boot from 10.0.2.2 error');
      } finally {
        await openPortal();
      }
      await untilBoth();
    });

    it('is on neither when it is taken back', async () => {
      const login = loginOf(stage, await scriptOf());
      const portals = portalsOf(await scriptOf()).map(at);
      await takeBack(stage, member, provision, 'delete');
      for (const portal of portals) await expect(discover({ ...login, portal })).rejects.toThrow('Connection refused');
      for (const host of [first, second]) {
        expect(await tgtdsOf(host)).toEqual([]);
        expect(await mountsWith(`${host.directory}/`)).toEqual([]);
        expect(await processesWith(`${host.directory}/rbd/`)).toEqual([]);
      }
      expect(await processesWith(disk.volume)).toEqual([]);
      await expect.poll(() => imagesIn(stage.ceph!), patience).toEqual(golden);
      expect(await stage.client.call('storageCheck')).toEqual({ items: [] });
    });
  });
}
