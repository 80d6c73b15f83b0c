import { type Stage, startStage } from '@m2/cli';
import { readFile } from 'node:fs/promises';
import { BlockList } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { closeWithoutLeftovers } from './leftovers.js';
import { bootScript } from './node-door.js';
import { boot, imageName, importImage, type Member, memberOf, takeBack } from './story.js';

const firmwares = ['bios', 'uefi', 'uefi-http'] as const;
const isRoot = process.getuid?.() === 0;

/** Network namespaces, and DHCP on one of them, are for root; without it, the other stories boot on QEMU's user network. */
describe.skipIf(!isRoot)('nodes on a network that M2 serves (needs root)', () => {
  let stage: Stage;
  let member: Member;

  beforeAll(async () => {
    stage = await startStage({ nodes: firmwares.map((firmware) => ({ name: firmware, firmware })), network: 'netns' });
    member = await memberOf(stage, stage.project);
    await importImage(stage, member);
  });

  afterAll(() => closeWithoutLeftovers(stage));

  it('boot by DHCP, whatever their firmware, each with an address of its own', async () => {
    const provisions = await Promise.all(firmwares.map((node) => boot(stage, member, { node, image: imageName })));
    const { from, to } = stage.lab.network!.dhcpRange;
    const range = new BlockList();
    range.addRange(from, to);
    const addresses = provisions.map(({ report }) => String(report?.['address']));
    expect(addresses.filter((address) => !range.check(address))).toEqual([]);
    expect(new Set(addresses).size).toBe(firmwares.length);
    for (const { report } of provisions)
      expect(report).toMatchObject({ boots: 1, root: expect.stringMatching(/^\/dev\/sd/) });

    // This machine is on the nodes' network, and no node.
    for (const { mac } of stage.lab.nodes) expect(await bootScript(stage, mac)).toContain('has no boot in progress');
    // A running node never asks for its address again, so it must stay its own when the lease ends.
    const reserved = () => readFile(`${stage.state}/boot/dhcp/hosts`, 'utf8');
    const wanted = stage.lab.nodes.map(({ mac }, place) => `${mac},${addresses[place]}\n`);
    await expect.poll(reserved, { timeout: 60_000 }).toBe(wanted.sort().join(''));
    await Promise.all(provisions.map((provision) => takeBack(stage, member, provision)));
  });
});
