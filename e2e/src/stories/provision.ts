import type { ApiError, Stage } from '@m2/cli';
import type { Disk, Operation, Provision } from '@m2/contracts';
import { beforeAll, describe, expect, it } from 'vitest';
import { discover, inquire, targetsOf } from '../iscsi.js';
import { mountsWith, processesWith } from '../leftovers.js';
import { m2 } from '../m2.js';
import { askAsNode, bootScript, type Login, loginOf } from '../node-door.js';
import { allAnswers, filesWith } from '../secrets.js';
import { boot, diskNamed, imageName, importImage, type Member, memberOf, takeBack } from '../story.js';

const refusal = 'has no boot in progress';

/** Each test goes on where the one before it ended. The services have to log all that they can be made to say. */
export function describeProvision(started: () => Stage): void {
  describe('a node that boots from a network disk', () => {
    let stage: Stage;
    let member: Member;
    let stranger: Member;
    let first: Provision;
    let disk: Disk;
    let login: Login;

    beforeAll(async () => {
      stage = started();
      member = await memberOf(stage, stage.project);
      stranger = await memberOf(stage, 'other');
    });

    const macOf = (node: string) => stage.lab.nodes.find(({ name }) => name === node)!.mac;
    const targetNames = async () => (await targetsOf(stage.state)).map(({ iqn }) => iqn);

    it('runs a real Linux from a clone of an image, for a member of the project', async () => {
      await importImage(stage, member);
      first = await boot(stage, member, { node: 'node-1', image: imageName, diskName: 'd1' });
      expect(first).toMatchObject({ nodeName: 'node-1', diskName: 'd1', state: 'booted' });
      expect(first.report).toMatchObject({
        root: expect.stringMatching(/^\/dev\/sd[a-z]\d*$/),
        boots: 1,
        marker: expect.stringMatching(/^[0-9a-f-]{36}$/),
      });
      disk = await diskNamed(member, 'd1');
      expect(disk).toMatchObject({ state: 'ready', holder: first.id });
      expect(await targetNames()).toEqual([expect.stringContaining(disk.volume)]);
      expect(await stage.lab.nodes[0]!.running()).toBe(true);
    });

    it('is the only one that gets its boot script', async () => {
      const mac = macOf('node-1');
      const asItself = await bootScript(stage, mac, { headers: { 'x-forwarded-for': '192.0.2.1' } });
      login = loginOf(stage, asItself);
      expect(await inquire(login)).toMatch(/^Vendor:M2 *$/m);

      const pretending = { 'x-forwarded-for': '127.0.0.1', 'x-real-ip': '127.0.0.1', forwarded: 'for=127.0.0.1' };
      const refused = await Promise.all([
        bootScript(stage, '52:54:00:00:00:01'),
        bootScript(stage, macOf('node-2')),
        bootScript(stage, mac, { from: '127.0.0.2' }),
        bootScript(stage, mac, { from: '127.0.0.2', headers: pretending }),
      ]);
      for (const script of refused) {
        expect(script).toContain(refusal);
        expect(script).not.toMatch(/iqn|password|sanboot/);
      }
      // Once for each that asks, however often it does.
      await expect
        .poll(async () => (await member.client.list('eventList', { query: { type: 'boot.config.refused' } })).items)
        .toEqual([expect.objectContaining({ data: expect.objectContaining({ mac, from: '127.0.0.2' }) })]);
    });

    it('phones home once with a token, from its own address', async () => {
      const metadata = `/boot/metadata?mac=${macOf('node-1')}`;
      expect(await askAsNode(stage, metadata, { from: '127.0.0.2' })).toMatchObject({ status: 404 });
      const { body } = await askAsNode(stage, metadata);
      const path = /^phone_home=(\S+)$/m.exec(body)?.[1] as string;
      const call = {
        method: 'POST' as const,
        body: 'boots=1',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
      };
      expect(await askAsNode(stage, path, { ...call, from: '127.0.0.2' })).toMatchObject({ status: 404 });
      expect(await askAsNode(stage, path, call)).toMatchObject({ status: 200 });
      expect(await askAsNode(stage, path, call)).toMatchObject({ status: 404 });
      expect(await askAsNode(stage, metadata)).toMatchObject({ status: 404 });
    });

    it('shares its CHAP secret with nobody', async () => {
      await expect(inquire({ ...login, secret: `${login.secret}0` })).rejects.toThrow('Authentication failure');
      await expect(inquire({ ...login, initiator: `${login.initiator}0` })).rejects.toThrow('Target not found');
      // Logs, databases, streams, the disk, the console: no file at all. (The user's name is no secret, and shows that we look well.)
      expect(await filesWith(stage.dir, login.user)).not.toEqual([]);
      expect(await filesWith(stage.dir, login.secret)).toEqual([]);
      expect(await processesWith(login.secret)).toEqual([]);
      const answers = await allAnswers(stage);
      expect(answers).toContain(first.id);
      expect(answers).not.toContain(login.secret);
    });

    it('is not there for another project', async () => {
      const { client } = stranger;
      const params = { project: stage.project };
      const id = first.id;
      const own = { project: stranger.project };
      const hidden = [
        client.call('projectShow', { params }),
        client.call('imageList', { params }),
        client.call('diskShow', { params: { ...params, disk: 'd1' } }),
        client.call('provisionList', { params }),
        client.call('provisionShow', { params: { ...params, id } }),
        client.call('provisionShow', { params: { ...own, id } }),
        client.call('provisionDelete', { params: { ...own, id } }),
        client.call('diskDelete', { params: { ...own, disk: disk.id } }),
        client.call('operationShow', { params: { id: first.operation } }),
        client.call('operationCancel', { params: { id: first.operation } }),
        client.call('eventList', { query: params }),
        client.call('provisionCreate', { params: own, body: { node: 'node-2', disk: disk.id } }),
        client.call('provisionCreate', { params: own, body: { node: 'node-2', image: first.image as string } }),
      ].map((call) =>
        call.then(
          () => 'an answer',
          (error: ApiError) => error.status,
        ),
      );
      expect(await Promise.all(hidden)).toEqual(hidden.map(() => 404));
      const seen = JSON.stringify([
        await client.list('operationList'),
        await client.list('eventList'),
        await client.list('nodeList'),
      ]);
      for (const secret of [id, disk.id, first.operation, first.project]) expect(seen).not.toContain(secret);
    });

    it('is taken back without a trace, and the disk is kept', async () => {
      await takeBack(stage, member, first);
      expect(await targetNames()).toEqual([]);
      await expect(discover(login)).rejects.toThrow('Connection refused');
      await expect(inquire(login)).rejects.toThrow('Login Failed');
      expect(await bootScript(stage, macOf('node-1'))).toContain(refusal);
      expect(await askAsNode(stage, `/boot/metadata?mac=${macOf('node-1')}`)).toMatchObject({ status: 404 });
      expect(await stage.lab.nodes[0]!.running()).toBe(false);
      expect(await mountsWith(disk.volume)).toEqual([]);
      expect(await processesWith(disk.volume)).toEqual([]);
      const node = await stage.client.call('nodeShow', { params: { node: 'node-1' } });
      expect(node).toMatchObject({ holder: null, holderProject: null });
      const params = { project: member.project };
      expect((await member.client.list('provisionList', { params })).items).toEqual([]);
      expect((await member.client.list('diskList', { params })).items).toEqual([{ ...disk, holder: null }]);
    });

    it('finds its disk as it left it, when the command line boots it again', async () => {
      const operation = (await m2(stage, member, ['provision', 'node-1', '--disk', 'd1'])) as Operation;
      expect(operation).toMatchObject({ kind: 'provision', state: 'succeeded', about: { disk: disk.id } });
      const second = (await m2(stage, member, ['provision', 'show', 'node-1'])) as Provision;
      expect(second).toMatchObject({ state: 'booted', report: { boots: 2, marker: first.report?.['marker'] } });
      expect(loginOf(stage, await bootScript(stage, macOf('node-1'))).secret).not.toBe(login.secret);
      const back = await m2(stage, member, ['deprovision', 'node-1']);
      expect(back).toMatchObject({ kind: 'deprovision', state: 'succeeded' });
    });

    it('api its disk to another node, and takes it away when asked', async () => {
      const third = await boot(stage, member, { node: 'node-2', disk: 'd1' });
      expect(third).toMatchObject({ nodeName: 'node-2', report: { boots: 3, marker: first.report?.['marker'] } });
      await takeBack(stage, member, third, 'delete');
      await expect(diskNamed(member, 'd1')).rejects.toMatchObject({ code: 'disk.not_found' });
      expect(await targetNames()).toEqual([]);
    });
  });
}
