import type { Operation } from '@m2/contracts';
import { describe, expect, it } from 'vitest';
import {
  askDeprovision,
  askProvision,
  ended,
  type TestInstallation,
  startTestInstallation,
  succeeded,
} from '../installation.js';
import { observe } from '../observed-state.js';

interface Stories {
  unreachable: Promise<{ operation: Operation; left: unknown[] }>;
  ignoring: Promise<{ operation: Operation; left: unknown[] }>;
  stuck: Promise<{ stuck: Operation; keptDisk: boolean; stayedOn: boolean; resumed: Operation; left: unknown[] }>;
  close(): Promise<void>;
}

/**
 * Broken BMCs, one node for each. Most of the time is waiting for deadlines, so this starts first, on another stage, and the results are
 * checked at the end.
 */
export async function beginBadBmcs(): Promise<Stories> {
  const installation = await startTestInstallation({ nodes: 3 });
  const stories = {
    unreachable: unreachable(installation),
    ignoring: ignoring(installation),
    stuck: stuck(installation),
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
  });
}
