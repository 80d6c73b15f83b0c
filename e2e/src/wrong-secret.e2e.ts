import { type Stage, startStage, untilEnded } from '@m2/cli';
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { expectSecret, targetsOf } from './iscsi.js';
import { closeWithoutLeftovers, mountsWith } from './leftovers.js';
import { bootScript } from './node-door.js';
import { diskNamed, imageName, importImage, type Member, memberOf } from './story.js';

/** Four times what a node takes to its first login on a quiet machine. */
const bootDeadlineSeconds = 30;

describe('a node whose target expects another secret', () => {
  let stage: Stage;
  let member: Member;

  beforeAll(async () => {
    const env = {
      gateway: { M2_BOOT_DEADLINE_SECONDS: String(bootDeadlineSeconds) },
      // Otherwise M2 may notice the changed account and repair it.
      iscsi: { M2_RECONCILE_SECONDS: '3600' },
    };
    stage = await startStage({ nodes: [{ name: 'node-1' }], network: 'user', env });
    member = await memberOf(stage, stage.project);
    await importImage(stage, member);
  });

  afterAll(() => closeWithoutLeftovers(stage));

  it('is refused, does not boot, and everything is undone', async () => {
    const { client, project } = member;
    const params = { project };
    const [node] = stage.lab.nodes;
    // The BMC is deaf while the target is changed, so that the node cannot be quicker.
    await node!.setBmcMode('dead');
    const body = { node: 'node-1', image: imageName, diskName: 'd1', waitFor: 'booted' as const };
    const { id, about } = await client.call('provisionCreate', { params, body });
    const stepState = async (name: string) =>
      (await client.call('operationShow', { params: { id } })).steps.find((step) => step.name === name)?.state;
    await expect.poll(() => stepState('export-disk'), { timeout: 60_000 }).toBe('done');
    const { volume } = await diskNamed(member, 'd1');
    const [target] = await targetsOf(stage.state);
    await expectSecret(stage.state, target!, 'not-what-the-script-says');
    await node!.setBmcMode('ok');

    const serial = () => readFile(node!.serialLog, 'utf8');
    await vi.waitUntil(async () => (await serial()).includes('M2: no boot from'), {
      timeout: bootDeadlineSeconds * 1_000 + 120_000,
    });
    // iPXE's words for "authentication failure" (RFC 7143, 11.13.5; ipxe: net/tcp/iscsi.c, EPERM_INITIATOR_AUTHENTICATION).
    expect(await serial()).toContain('Could not open SAN device: Operation not permitted');

    const ended = await untilEnded(client, id);
    expect(ended).toMatchObject({ state: 'failed', error: { code: 'boot.timeout' } });
    expect(ended.steps.filter(({ state }) => state !== 'undone')).toEqual([
      expect.objectContaining({ name: 'wait-for-boot' }),
    ]);
    expect(await serial()).not.toMatch(/m2-node: (userland|phoned)/);
    const events = (await client.list('eventList')).items.map(({ type }) => type);
    expect(events).toContain('boot.config.served');
    expect(events).not.toContain('boot.node.booted');

    expect(await targetsOf(stage.state)).toEqual([]);
    expect(await mountsWith(volume)).toEqual([]);
    expect(await node!.running()).toBe(false);
    expect(await bootScript(stage, node!.mac)).toContain('has no boot in progress');
    expect((await client.list('diskList', { params })).items).toEqual([]);
    expect(
      await client.call('provisionShow', { params: { ...params, id: about['provision'] as string } }),
    ).toMatchObject({ state: 'failed', report: null });
    expect(await stage.client.call('nodeShow', { params: { node: 'node-1' } })).toMatchObject({ holder: null });
  });
});
