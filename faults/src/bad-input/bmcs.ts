import type { Operation, WayOut } from '@m2/contracts';
import { describe, expect, it } from 'vitest';
import {
  askDeprovision,
  askProvision,
  ended,
  type TestInstallation,
  startTestInstallation,
  succeeded,
} from '../installation.js';
import { NodeDisk } from '../node-disk.js';
import { observe } from '../observed-state.js';

interface Stories {
  unreachable: Promise<{ operation: Operation; left: unknown[] }>;
  ignoring: Promise<{ operation: Operation; left: unknown[] }>;
  stuck: Promise<{ stuck: Operation; keptDisk: boolean; stayedOn: boolean; resumed: Operation; left: unknown[] }>;
  givenUp: Promise<GivenUp>;
  close(): Promise<void>;
}

/** What was seen while a person ended the story of a dead BMC. */
interface GivenUp {
  /** How it was refused to end it in another way. */
  refused: string[];
  plan: WayOut;
  ended: Operation;
  /** Whether the node whose BMC is dead still writes to the disk. */
  stillWrites: boolean;
  /** What it wrote, read by the other node. */
  kept: boolean;
  brokenNode: string;
  left: unknown[];
}

/**
 * Broken BMCs, one node for each. Most of the time is waiting for deadlines, so this starts first, on another stage, and the results are
 * checked at the end.
 */
export async function beginBadBmcs(): Promise<Stories> {
  const installation = await startTestInstallation({ nodes: 5 });
  const stories = {
    unreachable: unreachable(installation),
    ignoring: ignoring(installation),
    stuck: stuck(installation),
    givenUp: givenUp(installation),
  };
  // A failure is reported by the test that reads the result.
  for (const story of Object.values(stories)) story.catch(() => {});
  return { ...stories, close: () => installation.close() };
}

/** What there is of a provision and its node. */
async function leftOf(installation: TestInstallation, { about }: Operation): Promise<unknown[]> {
  const { held, networked, bootConfigs, disks, provisions } = await observe(installation);
  return [
    ...[...held, ...networked, ...bootConfigs].filter(({ node }) => node === about['node']),
    ...disks.filter(({ id }) => id === about['disk']),
    ...provisions.filter(({ id }) => id === about['provision']),
  ];
}

async function unreachable(installation: TestInstallation) {
  const bmc = installation.stage.lab.nodes[0]!;
  await bmc.setBmcMode('dead');
  const operation = await ended(installation, await askProvision(installation, { node: 'node-1' }));
  return { operation, left: await leftOf(installation, operation) };
}

async function ignoring(installation: TestInstallation) {
  const bmc = installation.stage.lab.nodes[1]!;
  await bmc.setBmcMode('ignores');
  const operation = await ended(installation, await askProvision(installation, { node: 'node-2' }));
  return { operation, left: await leftOf(installation, operation) };
}

async function stuck(installation: TestInstallation) {
  const bmc = installation.stage.lab.nodes[2]!;
  const { about } = await succeeded(installation, await askProvision(installation, { node: 'node-3' }));
  const provision = about['provision']!;
  await bmc.setBmcMode('dead');
  // A BMC that does not answer is waited for until the deadline of the step, three minutes.
  const operation = await ended(installation, await askDeprovision(installation, provision), 240_000);
  await bmc.setBmcMode('ok');
  const keptDisk = (await observe(installation)).disks.some(({ holder }) => holder === provision);
  const stayedOn = await bmc.running();
  await installation.client.call('operationResume', { params: { id: operation.id } });
  const resumed = await ended(installation, operation);
  return { stuck: operation, keptDisk, stayedOn, resumed, left: await leftOf(installation, operation) };
}

/** The BMC stays dead: a person leaves the power-off out, and another node goes on with the disk. */
async function givenUp(installation: TestInstallation): Promise<GivenUp> {
  const { client } = installation;
  const bmc = installation.stage.lab.nodes[3]!;
  const { about } = await succeeded(installation, await askProvision(installation, { node: 'node-4' }));
  const [provision, disk] = [about['provision']!, about['disk']!];
  const first = await NodeDisk.of(installation, 3);
  await first.write(0x4d);
  await bmc.setBmcMode('dead');
  const stuck = await ended(installation, await askDeprovision(installation, provision, 'keep'), 240_000);
  const codeOf = (call: Promise<unknown>) => call.then(() => 'done').catch(({ code }: { code: string }) => code);
  const params = { id: stuck.id };
  const inProject = { project: 'demo' };
  const refused = [
    await codeOf(client.call('operationCancel', { params })),
    await codeOf(client.call('diskDelete', { params: { ...inProject, disk } })),
    await codeOf(client.call('nodeRemove', { params: { node: 'node-4' } })),
    await codeOf(client.call('provisionCreate', { params: inProject, body: { node: 'node-5', disk } })),
  ];
  const step = 'power-off';
  const plan = await client.call('operationSkipPlan', { params, query: { step } });
  await client.call('operationSkipStep', { params, body: { step, reason: 'The BMC is dead' } });
  const last = await ended(installation, stuck);
  const stillWrites = await first.write(0x4e, 10_000).then(
    () => true,
    () => false,
  );
  const again = await succeeded(installation, await askProvision(installation, { node: 'node-5', disk }));
  const second = await NodeDisk.of(installation, 4);
  const kept = await second.verify(0x4d).then(
    () => true,
    () => false,
  );
  const brokenNode = await codeOf(
    client.call('provisionCreate', { params: inProject, body: { node: 'node-4', image: 'golden' } }),
  );
  await bmc.setBmcMode('ok');
  await client.call('nodeMarkRepaired', { params: { node: 'node-4' }, body: { reason: 'It has a new BMC' } });
  await succeeded(installation, await askDeprovision(installation, again.about['provision']!, 'delete'));
  return { refused, plan, ended: last, stillWrites, kept, brokenNode, left: await leftOf(installation, stuck) };
}

export function describeBadBmcs(stories: () => Stories): void {
  describe('a BMC that', () => {
    it('does not answer: bmc.unreachable, and all is taken back', async () => {
      const { operation, left } = await stories().unreachable;
      expect(operation).toMatchObject({ state: 'failed', error: { code: 'bmc.unreachable' } });
      expect(left).toEqual([]);
    });

    it('says yes and does nothing: bmc.ignored_command, and all is taken back', async () => {
      const { operation, left } = await stories().ignoring;
      expect(operation).toMatchObject({ state: 'failed', error: { code: 'bmc.ignored_command' } });
      expect(left).toEqual([]);
    });

    it('does not answer when the node is to go off: nothing is taken from under it, and a person is told', async () => {
      const { stuck, keptDisk, stayedOn, resumed, left } = await stories().stuck;
      expect(stuck).toMatchObject({ state: 'needs_attention', error: { code: 'bmc.unreachable' } });
      expect(stuck.attention).toMatch(/^power-off could not be finished: .*m2 operation resume/);
      expect({ keptDisk, stayedOn }).toEqual({ keptDisk: true, stayedOn: true });
      expect(resumed.state).toBe('succeeded');
      expect(left).toEqual([]);
    });

    it('stays dead is left out by a person, who is told what that leaves; then another node goes on with the disk', async () => {
      const { refused, plan, ended, stillWrites, kept, brokenNode, left } = await stories().givenUp;
      expect(refused).toEqual(['operation.not_cancellable', 'disk.in_use', 'node.busy', 'disk.in_use']);
      expect(plan.steps).toMatchObject([{ step: 'power-off', leaves: 'The node may still be on.' }]);
      expect(plan.steps[0]!.unsafe).toContain('its export is cut');
      expect(ended).toMatchObject({ state: 'succeeded', error: null });
      expect(ended.steps[0]).toMatchObject({
        name: 'power-off',
        state: 'skipped',
        skipped: { reason: 'The BMC is dead' },
      });
      expect({ stillWrites, kept, brokenNode }).toEqual({ stillWrites: false, kept: true, brokenNode: 'node.broken' });
      expect(left).toEqual([]);
    });
  });
}
