import { join } from 'node:path';

/** How a node reaches the world. `user` needs no root: the guest sees the host's loopback as 10.0.2.2. */
export type NodeNetwork =
  | {
      kind: 'user';
      /** The DHCP boot file, an http:// URL for iPXE, which expands `${net0/mac}` in it. */
      bootUrl: string;
    }
  | { kind: 'tap'; tap: string; netns?: string };

/** `uefi` has iPXE in the nic's ROM, as `bios` has; `uefi-http` has no ROM and boots by the firmware's HTTP boot. */
export type Firmware = 'bios' | 'uefi' | 'uefi-http';

export interface QemuNode {
  /** The node's own directory; its pid file, monitor and firmware variables live there. An absolute path. */
  dir: string;
  name: string;
  mac: string;
  /** Default 256, enough for the lab's image. */
  memoryMiB?: number;
  firmware: Firmware;
  network: NodeNetwork;
  /** The serial console is appended to this file. */
  serialLog: string;
}

export const OVMF_CODE = '/usr/share/OVMF/OVMF_CODE_4M.fd';
export const OVMF_VARS = '/usr/share/OVMF/OVMF_VARS_4M.fd';

/** In QEMU's option lists a comma ends a value; doubled it stands for itself. */
const option = (value: string) => value.replaceAll(',', ',,');

/** The command that starts a node's QEMU in the background, program first. */
export function qemuCommand(node: QemuNode): string[] {
  const { network } = node;
  const netdev =
    network.kind === 'user'
      ? `user,id=n0,bootfile=${option(network.bootUrl)}`
      : `tap,id=n0,ifname=${network.tap},script=no,downscript=no`;
  const nic = `virtio-net-pci,netdev=n0,mac=${node.mac},bootindex=1${node.firmware === 'uefi-http' ? ',romfile=' : ''}`;
  const program = ['qemu-system-x86_64'];
  if (network.kind === 'tap' && network.netns) program.unshift('ip', 'netns', 'exec', network.netns);
  return [
    program,
    ['-name', node.name, '-daemonize', '-pidfile', join(node.dir, 'qemu.pid')],
    // Explicitly: some machines have a /dev/kvm that does not work, and QEMU would pick it.
    ['-accel', 'tcg,thread=multi', '-cpu', 'qemu64', '-m', String(node.memoryMiB ?? 256)],
    ['-nodefaults', '-no-user-config', '-display', 'none', '-vga', 'none'],
    ...(node.firmware === 'bios' ? BIOS : uefi(node.dir)),
    ...(node.firmware === 'uefi-http' ? NO_PXE : []),
    ['-netdev', netdev, '-device', nic],
    ['-chardev', `file,id=serial0,append=on,path=${option(node.serialLog)}`, '-serial', 'chardev:serial0'],
    // A FIFO, which a shell script can write to, and not a UNIX socket, whose path may have 107 bytes only.
    ['-chardev', `pipe,id=monitor0,path=${option(join(node.dir, 'mon'))}`, '-mon', 'chardev=monitor0'],
  ].flat();
}

/** reboot-timeout: a server that found nothing to boot asks the network again, here after 5 s. */
const BIOS = [['-machine', 'pc,graphics=off', '-boot', 'reboot-timeout=5000']];

/** OVMF tries PXE first, for two minutes (OvmfPkg/README, "Network Support"). */
const NO_PXE = [
  ['-fw_cfg', 'name=opt/org.tianocore/IPv4PXESupport,string=n'],
  ['-fw_cfg', 'name=opt/org.tianocore/IPv6PXESupport,string=n'],
];

function uefi(dir: string): string[][] {
  return [
    ['-machine', 'q35'],
    ['-drive', `if=pflash,format=raw,unit=0,readonly=on,file=${OVMF_CODE}`],
    ['-drive', `if=pflash,format=raw,unit=1,file=${option(join(dir, 'uefi-vars.fd'))}`],
  ];
}
