import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLab, destroyLab, openLab, type Lab, type LabNode } from '../index.js';
import { ipmi } from '../test/ipmi.js';

describe('BMCs without machines', () => {
  let dir: string;
  let lab: Lab;
  let node: LabNode;

  beforeEach(async () => {
    dir = join(await mkdtemp(join(tmpdir(), 'm2 lab-')), 'lab');
    const nodes = ['n1', 'n2', 'n3'].map((name) => ({ name, firmware: 'none' as const }));
    lab = await createLab({ dir, nodes, network: 'user', bootUrl: 'http://10.0.2.2:1/' });
    node = lab.nodes[0]!;
  });

  afterEach(async () => {
    await lab.destroy();
    await rm(join(dir, '..'), { recursive: true });
  });

  it('answer for their own node only', async () => {
    await ipmi(node.bmc, 'chassis', 'power', 'on');
    const answers = lab.nodes.map(async ({ bmc }) => ipmi(bmc, 'chassis', 'power', 'status'));
    expect(await Promise.all(answers)).toEqual(['on', 'off', 'off'].map((state) => `Chassis Power is ${state}`));
    expect(await Promise.all(lab.nodes.map((each) => each.running()))).toEqual([true, false, false]);
    await expect(ipmi({ ...node.bmc, password: 'wrong' }, 'chassis', 'power', 'off')).rejects.toThrow('ipmitool');
    expect(await node.running()).toBe(true);
  });

  it('keep the boot device', async () => {
    expect(await node.bootDevice()).toBeUndefined();
    await ipmi(node.bmc, 'chassis', 'bootdev', 'pxe');
    expect(await node.bootDevice()).toBe('pxe');
    expect(await ipmi(node.bmc, 'chassis', 'bootparam', 'get', '5')).toContain('Force PXE');
  });

  it('say yes and do nothing in the mode "ignores"', async () => {
    await node.setBmcMode('ignores');
    expect(await ipmi(node.bmc, 'chassis', 'power', 'on')).toBe('Chassis Power Control: Up/On');
    expect(await ipmi(node.bmc, 'chassis', 'power', 'status')).toBe('Chassis Power is off');
    await node.setBmcMode('ok');
    await ipmi(node.bmc, 'chassis', 'power', 'on');
    expect(await node.running()).toBe(true);
  });

  it('pretend in the mode "lies"', async () => {
    await node.setBmcMode('lies');
    await ipmi(node.bmc, 'chassis', 'power', 'on');
    await ipmi(node.bmc, 'chassis', 'bootdev', 'pxe');
    expect(await ipmi(node.bmc, 'chassis', 'power', 'status')).toBe('Chassis Power is on');
    expect(await node.running()).toBe(false);
    expect(await node.bootDevice()).toBeUndefined();
  });

  it('take packets and are silent in the mode "dead"', { timeout: 60_000 }, async () => {
    await node.setBmcMode('dead');
    await expect(ipmi(node.bmc, '-N', '1', '-R', '1', 'chassis', 'power', 'status')).rejects.toThrow(
      'Unable to establish',
    );
    await node.setBmcMode('ok');
    expect(await ipmi(node.bmc, 'chassis', 'power', 'status')).toBe('Chassis Power is off');
  });

  it('are found, used and ended by another process, from the directory alone', async () => {
    const again = await openLab(dir);
    expect(again.describe()).toEqual(lab.describe());
    await expect(createLab({ dir, nodes: [{ name: 'x' }], network: 'user', bootUrl: 'http://h/' })).rejects.toThrow(
      'EEXIST',
    );
    expect(await ipmi(again.nodes[1]!.bmc, 'chassis', 'power', 'status')).toBe('Chassis Power is off');
    await destroyLab(dir);
    await destroyLab(dir);
    await expect(ipmi(node.bmc, '-N', '1', '-R', '1', 'chassis', 'power', 'status')).rejects.toThrow(
      'Unable to establish',
    );
  });
});
