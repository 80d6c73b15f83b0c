import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { bootFromDisk, type DiskBoot } from './boot-from-disk.js';
import { askAgain, refuse } from './refusals.js';

const boot: DiskBoot = {
  node: 'web-1',
  initiator: 'iqn.2026-01.org.example.m2:node-0198a3',
  target: 'iqn.2026-01.org.example.m2:export-0198b7',
  portals: [{ address: '10.77.5.1', port: 3260 }],
  chap: { user: 'export-0198b7', password: 'kJ3x0Zt_9-aQ' },
};
const portals = [...boot.portals, { address: 'storage-2.example.org', port: 13_260 }];

/** The files are what a node is served, to be read by people; `vitest -u` writes them anew. */
const golden = (name: string) => fileURLToPath(new URL(`golden/${name}.golden.ipxe`, import.meta.url));

describe('scripts', () => {
  it.each([
    ['boot-from-disk', bootFromDisk(boot)],
    ['boot-from-disk-two-portals', bootFromDisk({ ...boot, portals }, { rounds: 3, pauseSeconds: 2, finally: 'exit' })],
    ['refused', refuse()],
    ['ask-again', askAgain('http://10.77.5.1:7401/boot/ipxe')],
  ])('%s', async (name, script) => {
    await expect(script).toMatchFileSnapshot(golden(name));
  });

  it('never print the CHAP secret', () => {
    const printed = bootFromDisk(boot).match(/echo .*/g) ?? [];
    expect(printed.length).toBeGreaterThan(3);
    expect(printed.join('\n')).not.toContain(boot.chap.password);
    expect(printed.join('\n')).not.toContain('password');
  });

  it('log in at a target of any port, and refuse a portal that is none', () => {
    const at = (address: string, port: number) => bootFromDisk({ ...boot, portals: [{ address, port }] });
    expect(at('10.0.0.1', 1)).toContain(`sanboot --drive 0x80 iscsi:10.0.0.1::1:1:${boot.target}\n`.trim());
    for (const port of [0, 65_536, 1.5, Number.NaN]) expect(() => at('10.0.0.1', port)).toThrow(/port of a portal/);
    expect(() => at('fd00::1', 3260)).toThrow(/address of a portal/);
  });

  it('refuse a patience that never ends', () => {
    for (const rounds of [0, -1, 1.5, Number.NaN, Infinity]) {
      expect(() => bootFromDisk(boot, { rounds, pauseSeconds: 1, finally: 'exit' })).toThrow(/number of rounds/);
    }
  });
});
