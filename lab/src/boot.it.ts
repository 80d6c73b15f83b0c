import { constants } from 'node:fs';
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { buildLabImage, createLab, type Lab } from './index.js';
import { startBootService, type TestBootService } from './test/boot-service.js';
import { ipmi } from './test/ipmi.js';
import { startTarget, type TestTarget } from './test/iscsi-target.js';

/** A boot takes 13 s alone on the machine, and ten times that on a crowded one. */
const BOOT_DEADLINE_MS = 180_000;

describe('a node of the lab', () => {
  let dir: string;
  let target: TestTarget;
  let service: TestBootService;
  let lab: Lab;
  const cleanUp: (() => Promise<unknown>)[] = [];

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'm2-lab-'));
    cleanUp.unshift(() => rm(dir, { recursive: true }));
    const image = await buildLabImage();
    const disk = join(dir, 'disk.raw');
    await copyFile(image.path, disk, constants.COPYFILE_FICLONE);
    target = await startTarget(dir, disk);
    cleanUp.unshift(() => target.stop());
    service = await startBootService(target);
    cleanUp.unshift(() => service.stop());
    const bootUrl = `http://10.0.2.2:${service.port}/boot/ipxe?mac=\${net0/mac}`;
    const nodes = [{ name: 'bios' }, { name: 'uefi', firmware: 'uefi' as const }];
    lab = await createLab({ dir: join(dir, 'lab'), network: 'user', bootUrl, nodes });
    cleanUp.unshift(() => lab.destroy());
  }, BOOT_DEADLINE_MS);

  afterAll(async () => {
    for (const step of cleanUp) await step();
  });

  const node = (name: string) => lab.nodes.find((candidate) => candidate.name === name)!;

  async function boot(name: string): Promise<Record<string, string>> {
    const { bmc, serialLog } = node(name);
    expect(await ipmi(bmc, 'chassis', 'power', 'status')).toBe('Chassis Power is off');
    const start = performance.now();
    await ipmi(bmc, 'chassis', 'power', 'on');
    expect(await ipmi(bmc, 'chassis', 'power', 'status')).toBe('Chassis Power is on');
    const call = await service.nextCall(BOOT_DEADLINE_MS).catch(async (error: Error) => {
      throw new Error(`${error.message}; its console ends with:\n${(await readFile(serialLog, 'utf8')).slice(-2000)}`);
    });
    call['phases'] =
      `script ${Math.round(service.times.script - start)} ms, phone-home ${Math.round(performance.now() - start)} ms`;
    return call;
  }

  it(
    'boots over iSCSI, phones home, and finds its disk as it left it',
    { timeout: 3 * BOOT_DEADLINE_MS },
    async (test) => {
      const first = await boot('bios');
      await test.annotate(`first boot: ${first['phases']}`);
      expect(first).toMatchObject({ mac: node('bios').mac, boots: '1', root: '/dev/sda3' });
      expect(first['kernel']).toMatch(/^6\.1\..*cloud-amd64$/);
      expect(first['marker']).toMatch(/^[0-9a-f-]{36}$/);
      await ipmi(node('bios').bmc, 'chassis', 'power', 'off');
      expect(await node('bios').running()).toBe(false);

      const second = await boot('bios');
      await test.annotate(`second boot: ${second['phases']}`);
      expect(second).toMatchObject({ boots: '2', marker: first['marker'] });
      await ipmi(node('bios').bmc, 'chassis', 'power', 'off');
    },
  );

  it('boots the same disk by UEFI', { timeout: 2 * BOOT_DEADLINE_MS }, async (test) => {
    const call = await boot('uefi');
    await test.annotate(`UEFI boot: ${call['phases']}`);
    expect(call).toMatchObject({ mac: node('uefi').mac, root: '/dev/sda3' });
    expect(Number(call['boots'])).toBeGreaterThan(0);
    await ipmi(node('uefi').bmc, 'chassis', 'power', 'soft');
    await vi.waitUntil(async () => !(await node('uefi').running()), { timeout: 60_000, interval: 100 });
  });
});
