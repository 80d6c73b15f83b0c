import { mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { failureOf, powerConformance, type TestNode } from '../power.conformance.js';
import type { BmcAddress } from '../power.port.js';
import { IpmiDriver } from './ipmi-driver.js';
import { startIpmiSim } from './testing/ipmi-sim.js';

const deadlineMs = 20_000;

powerConformance('ipmi', () => new IpmiDriver({ pollMs: 50 }), startIpmiSim);

/** The argument lists of the processes that talk to this BMC now. */
async function commandLines(bmc: BmcAddress): Promise<string[][]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  return lines.map((line) => line.split('\0')).filter((args) => args.includes('-E') && args.includes(String(bmc.port)));
}

describe('ipmitool', () => {
  const nodes: TestNode[] = [];
  const drivers: IpmiDriver[] = [];
  const startNode = async () => {
    const node = await startIpmiSim();
    nodes.push(node);
    return node;
  };
  const open = (options?: ConstructorParameters<typeof IpmiDriver>[0]) => {
    const driver = new IpmiDriver({ pollMs: 50, ...options });
    drivers.push(driver);
    return driver;
  };
  afterEach(async () => {
    await Promise.all(drivers.splice(0).map((driver) => driver.close()));
    await Promise.all(nodes.splice(0).map((node) => node.stop()));
  });

  it('never has the password on its command line, and is gone when the call ended', async () => {
    const node = await startNode();
    node.hang();
    const call = open().state(node.bmc, { deadlineMs: 4000 });
    await expect.poll(() => commandLines(node.bmc), { timeout: 3500 }).toHaveLength(1);
    const [args] = await commandLines(node.bmc);
    expect(args).toContain('ipmitool');
    expect(args?.join(' ')).not.toContain(node.bmc.password);
    await expect(call).rejects.toMatchObject({ code: 'bmc.unreachable' });
    expect(await commandLines(node.bmc)).toEqual([]);
  });

  it('tries the cipher suites in order, and starts with the one that worked the next time', async () => {
    const node = await startNode();
    const driver = open();
    const bmc = { ...node.bmc, cipherSuites: [17, 3] };
    expect(await driver.state(bmc, { deadlineMs })).toBe('off');
    node.hang();
    const call = driver.state(bmc, { deadlineMs: 4000 }).catch(() => 'off');
    await expect.poll(() => commandLines(bmc), { timeout: 3500 }).toHaveLength(1);
    const [args = []] = await commandLines(bmc);
    expect(args[args.indexOf('-C') + 1]).toBe('3');
    await call;
  });

  it('says so when the BMC has none of the cipher suites', async () => {
    const node = await startNode();
    const bmc = { ...node.bmc, cipherSuites: [17, 16] };
    await expect(open().state(bmc, { deadlineMs })).rejects.toMatchObject({
      code: 'bmc.protocol',
      message: expect.stringContaining('17, 16') as string,
    });
  });

  it('does not wait for a dead BMC to talk to the next one', async () => {
    const [dead, alive] = await Promise.all([startNode(), startNode()]);
    dead.hang();
    const driver = open();
    let given = false;
    const call = driver.state(dead.bmc, { deadlineMs }).catch(() => (given = true));
    expect(await driver.state(alive.bmc, { deadlineMs })).toBe('off');
    expect(given).toBe(false);
    dead.wake();
    await call;
  });

  it('notices when the BMC stops answering in the middle of a session', async () => {
    const node = await startNode();
    await node.setPower('on');
    await node.behave('ignores');
    const failed = failureOf(open().ensureOff(node.bmc, { deadlineMs: 5000 }));
    await expect.poll(() => node.journal(), { timeout: 4000 }).toContain('power 0');
    node.hang();
    expect(await failed).toMatchObject({ code: 'bmc.unreachable' });
  });

  it('says what to install when there is no ipmitool', async () => {
    const node = await startNode();
    const dir = await mkdtemp(join(tmpdir(), 'm2-ipmi-path-'));
    await Promise.all(['mkfifo', 'stdbuf'].map((tool) => symlink(`/usr/bin/${tool}`, join(dir, tool))));
    const path = process.env['PATH'];
    process.env['PATH'] = dir;
    try {
      const call = open().state(node.bmc, { deadlineMs });
      await expect(call).rejects.toMatchObject({ code: 'bmc.tool_missing' });
    } finally {
      process.env['PATH'] = path;
      await rm(dir, { recursive: true });
    }
  });
});
