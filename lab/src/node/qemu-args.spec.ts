import { describe, expect, it } from 'vitest';
import { qemuCommand, type QemuNode } from './qemu-args.js';

const node: QemuNode = {
  dir: '/lab/n1',
  name: 'n1',
  mac: '52:54:00:00:00:01',
  firmware: 'bios',
  network: { kind: 'user', bootUrl: 'http://10.0.2.2:80/boot/ipxe?mac=${net0/mac}' },
  serialLog: '/lab/n1/serial.log',
};

describe('qemuCommand', () => {
  it('names the emulator: a /dev/kvm that does not work would be picked otherwise', () => {
    const command = qemuCommand(node);
    expect(command[0]).toBe('qemu-system-x86_64');
    expect(command[command.indexOf('-accel') + 1]).toBe('tcg,thread=multi');
  });

  it('keeps what it is given out of the option syntax', () => {
    const command = qemuCommand({ ...node, network: { kind: 'user', bootUrl: 'http://h/a,restrict=on' }, dir: '/a,b' });
    expect(command).toContain('user,id=n0,bootfile=http://h/a,,restrict=on');
    expect(command).toContain('pipe,id=monitor0,path=/a,,b/mon');
    expect(command).toContain('/a,b/qemu.pid');
  });

  it('runs a node with a tap in the namespace of the tap', () => {
    const command = qemuCommand({ ...node, network: { kind: 'tap', tap: 'tap0', netns: 'm2lab-1' } });
    expect(command.slice(0, 5)).toEqual(['ip', 'netns', 'exec', 'm2lab-1', 'qemu-system-x86_64']);
    expect(command).toContain('tap,id=n0,ifname=tap0,script=no,downscript=no');
  });

  it('gives a UEFI node variables of its own', () => {
    const command = qemuCommand({ ...node, firmware: 'uefi' });
    expect(command.filter((word) => word.startsWith('if=pflash'))).toEqual([
      expect.stringContaining('readonly=on'),
      expect.stringContaining('file=/lab/n1/uefi-vars.fd'),
    ]);
  });
});
