import { constants } from 'node:fs';
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildLabImage, createLab, type Lab, type LabNode } from '../index.js';
import { run } from '../process/run.js';
import { startBootService, type TestBootService } from '../test/boot-service.js';
import { startDhcp } from '../test/dhcp.js';
import { ipmi } from '../test/ipmi.js';
import { startTarget } from '../test/iscsi-target.js';

const BOOT_DEADLINE_MS = 180_000;

/** Namespaces and taps need root; the same boots run without it in boot.it.ts. */
describe.skipIf(process.getuid?.() !== 0)('a lab on a network of its own', () => {
  let lab: Lab;
  let service: TestBootService;
  const cleanUp: (() => Promise<unknown>)[] = [];

  beforeAll(async () => {
    const dir = await mkdtemp(join(tmpdir(), 'm2-lab-'));
    cleanUp.unshift(() => rm(dir, { recursive: true }));
    const disk = join(dir, 'disk.raw');
    await copyFile((await buildLabImage()).path, disk, constants.COPYFILE_FICLONE);
    lab = await createLab({
      dir: join(dir, 'lab'),
      network: 'netns',
      nodes: [{ name: 'bios' }, { name: 'uefi-http', firmware: 'uefi-http' }],
    });
    cleanUp.unshift(() => lab.destroy());
    const address = lab.network!.serverAddress;
    const target = await startTarget(dir, disk, address);
    cleanUp.unshift(() => target.stop());
    service = await startBootService(target, address);
    cleanUp.unshift(() => service.stop());
    const origin = `http://${address}:${service.port}/boot`;
    const boot = { script: `${origin}/ipxe?mac=\${net0/mac}`, program: `${origin}/snponly.efi` };
    cleanUp.unshift(await startDhcp(dir, lab.network!, boot));
  }, BOOT_DEADLINE_MS);

  afterAll(async () => {
    for (const step of cleanUp) await step();
  });

  async function boot(node: LabNode): Promise<Record<string, string>> {
    const start = performance.now();
    await ipmi(node.bmc, 'chassis', 'bootdev', 'pxe');
    await ipmi(node.bmc, 'chassis', 'power', 'on');
    const call = await service.nextCall(BOOT_DEADLINE_MS).catch(async (error: Error) => {
      throw new Error(
        `${error.message}; its console ends with:\n${(await readFile(node.serialLog, 'utf8')).slice(-2000)}`,
      );
    });
    call['phases'] =
      `script ${Math.round(service.times.script - start)} ms, phone-home ${Math.round(performance.now() - start)} ms`;
    await ipmi(node.bmc, 'chassis', 'power', 'off');
    return call;
  }

  it('boots a BIOS node by DHCP and iPXE', { timeout: 2 * BOOT_DEADLINE_MS }, async (test) => {
    const [node, other] = lab.nodes;
    expect(node!.bmc).toMatchObject({ port: 623 });
    expect(other!.bmc.address).not.toBe(node!.bmc.address);
    const call = await boot(node!);
    await test.annotate(call['phases']!);
    expect(call).toMatchObject({ mac: node!.mac, root: '/dev/sda3' });
    expect(await node!.bootDevice()).toBe('pxe');
  });

  it('boots a UEFI node by HTTP', { timeout: 2 * BOOT_DEADLINE_MS }, async (test) => {
    const node = lab.nodes[1]!;
    const call = await boot(node);
    await test.annotate(call['phases']!);
    expect(call).toMatchObject({ mac: node.mac, root: '/dev/sda3' });
  });

  it('leaves nothing behind', async () => {
    const { namespace, serverInterface } = lab.network!;
    await ipmi(lab.nodes[0]!.bmc, 'chassis', 'power', 'on');
    await lab.destroy();
    expect(await lab.nodes[0]!.running()).toBe(false);
    expect(await run('ip', ['netns', 'list'])).not.toContain(namespace);
    await expect(run('ip', ['link', 'show', serverInterface])).rejects.toThrow('does not exist');
  });
});
