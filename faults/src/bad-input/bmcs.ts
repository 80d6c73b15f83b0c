import { describe, expect, it } from 'vitest';
import { askDeprovision, askProvision, ended, type Scene, succeeded } from '../scene.js';
import { lookAround } from '../things.js';

/** BMCs that are out of order, a node for each, at the same time: most of it is waiting for deadlines. */
export function describeBadBmcs(scene: () => Scene): void {
  describe.concurrent('a BMC that', () => {
    const bmc = (place: number) => scene().stage.lab.nodes[place]!;
    const node = (place: number) => scene().stage.nodes[place]!;

    /** Nothing of this node's is there any more. */
    const expectFree = async (place: number, provision: string) => {
      const things = await lookAround(scene());
      expect(things.held.filter((held) => held.node === node(place).id)).toEqual([]);
      expect(things.networked.filter((nic) => nic.node === node(place).id)).toEqual([]);
      expect(things.bootConfigs.filter((config) => config.node === node(place).id)).toEqual([]);
      expect(things.disks.filter(({ holder }) => holder === provision)).toEqual([]);
      expect(things.provisions.filter(({ id }) => id === provision)).toEqual([]);
    };

    it('does not answer: bmc.unreachable, and all is taken back', async () => {
      await bmc(1).setBmcMode('dead');
      const operation = await ended(scene(), await askProvision(scene(), { node: 'node-2' }));
      await bmc(1).setBmcMode('ok');
      expect(operation).toMatchObject({ state: 'failed', error: { code: 'bmc.unreachable' } });
      await expectFree(1, operation.about['provision']!);
    });

    it('says yes and does nothing: bmc.ignored_command, and all is taken back', async () => {
      await bmc(2).setBmcMode('ignores');
      const operation = await ended(scene(), await askProvision(scene(), { node: 'node-3' }));
      await bmc(2).setBmcMode('ok');
      expect(operation).toMatchObject({ state: 'failed', error: { code: 'bmc.ignored_command' } });
      await expectFree(2, operation.about['provision']!);
    });

    it('does not answer when the node is to go off: nothing is taken from under it, and a person is told', async () => {
      const { about } = await succeeded(scene(), await askProvision(scene(), { node: 'node-4' }));
      const provision = about['provision']!;
      await bmc(3).setBmcMode('dead');
      const stuck = await ended(scene(), await askDeprovision(scene(), provision));
      await bmc(3).setBmcMode('ok');
      expect(stuck).toMatchObject({ state: 'needs_attention', error: { code: 'bmc.unreachable' } });
      expect(stuck.attention).toMatch(/^power-off could not be finished: .*m2 operation resume/);
      expect((await lookAround(scene())).disks).toContainEqual(expect.objectContaining({ holder: provision }));
      expect(await bmc(3).running()).toBe(true);

      await scene().client.call('operationResume', { params: { id: stuck.id } });
      await succeeded(scene(), stuck);
      expect(await bmc(3).running()).toBe(false);
      await expectFree(3, provision);
    });
  });
}
