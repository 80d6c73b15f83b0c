import { copyFile, mkdir, open, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../process/run.js';

const SECTOR = 512;
export const DISK_BYTES = 96 * 1024 * 1024;

/** In sectors. The gap that GRUB's core lives in is a partition of its own: a GPT fills the sectors after the MBR. */
const CORE = { start: 2048, size: 2048 };
const ESP = { start: 4096, size: 16384 };
const ROOT = { start: 20480, size: DISK_BYTES / SECTOR - 20480 - 2048 };

/** Partition types of the UEFI specification and, for the first, of GRUB's manual ("BIOS installation"). */
const PARTITIONS = `label: gpt
start=${CORE.start}, size=${CORE.size}, type=21686148-6449-6E6F-744E-656564454649, name=m2-grub
start=${ESP.start}, size=${ESP.size}, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=m2-efi
start=${ROOT.start}, size=${ROOT.size}, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name=m2-root
`;

/** panic=1: a node that cannot go on asks the network again; the rest spares an emulated processor some seconds. */
const KERNEL_ARGS =
  'console=ttyS0,115200 panic=1 loglevel=4 mitigations=off nokaslr audit=0 apparmor=0 init_on_alloc=0 tsc=reliable';

const GRUB_CONFIG = `serial --unit=0 --speed=115200
terminal_output serial
search.fs_label m2-root root
echo "m2-node: GRUB loads Linux"
linux /boot/vmlinuz ${KERNEL_ARGS}
initrd /boot/initramfs
boot
`;

const GRUB_MODULES = ['part_gpt', 'ext2', 'linux', 'serial', 'terminal', 'echo', 'search_label', 'boot'];
export const GRUB_DIR = '/usr/lib/grub';

/** Writes the root tree, GRUB for BIOS and for UEFI, and the partitions around them into a new sparse raw disk. */
export async function buildDisk(workDir: string, rootTree: string, target: string): Promise<void> {
  const disk = await open(target, 'wx');
  try {
    await disk.truncate(DISK_BYTES);
  } finally {
    await disk.close();
  }
  await run('sfdisk', ['--quiet', '--no-tell-kernel', target], { input: PARTITIONS });
  const fileSystem = ['-q', '-F', '-t', 'ext4', '-L', 'm2-root', '-m', '0', '-b', '4096', '-d', rootTree];
  const place = `offset=${ROOT.start * SECTOR},root_owner=0:0`;
  await run('mke2fs', [...fileSystem, '-E', place, target, `${(ROOT.size * SECTOR) / 1024}k`]);
  const config = join(workDir, 'grub.cfg');
  await writeFile(config, GRUB_CONFIG);
  await installGrubForBios(config, workDir, target);
  await installGrubForUefi(config, workDir, target);
}

async function installGrubForBios(config: string, workDir: string, target: string): Promise<void> {
  const core = join(workDir, 'core.img');
  await grubImage('i386-pc', config, core, ['biosdisk']);
  const boot = await readFile(`${GRUB_DIR}/i386-pc/boot.img`);
  const image = await readFile(core);
  // What grub-install does (GRUB's include/grub/i386/pc/boot.h): boot.img learns at 0x5c where the core's first sector
  // is, and that sector learns, in its last block list (12 bytes before its end), where the rest is.
  boot.writeBigUInt64LE(BigInt(CORE.start), 0x5c);
  image.writeBigUInt64LE(BigInt(CORE.start + 1), SECTOR - 12);
  const disk = await open(target, 'r+');
  try {
    // Only the first 440 bytes: then follow the disk signature and the protective partition table.
    await disk.write(boot, 0, 440, 0);
    await disk.write(image, 0, image.length, CORE.start * SECTOR);
  } finally {
    await disk.close();
  }
}

/** The path is the one that firmware tries on a disk without a boot entry (UEFI specification, 3.5.1.1). */
async function installGrubForUefi(config: string, workDir: string, target: string): Promise<void> {
  const program = join(workDir, 'BOOTX64.EFI');
  await grubImage('x86_64-efi', config, program, []);
  const esp = join(workDir, 'esp.img');
  await rm(esp, { force: true });
  const size = ['-T', String(ESP.size), '-h', '16', '-s', '63'];
  await run('mformat', ['-C', '-i', esp, ...size, '-v', 'M2-EFI', '::']);
  await run('mmd', ['-i', esp, '::/EFI', '::/EFI/BOOT']);
  await run('mcopy', ['-i', esp, program, '::/EFI/BOOT/']);
  const disk = await open(target, 'r+');
  try {
    await disk.write(await readFile(esp), 0, null, ESP.start * SECTOR);
  } finally {
    await disk.close();
  }
}

async function grubImage(format: string, config: string, target: string, modules: string[]): Promise<void> {
  const prefix = ['-p', '/boot/grub', '-c', config, '-o', target];
  await run('grub-mkimage', ['-O', format, ...prefix, ...GRUB_MODULES, ...modules]);
}

/** Puts the kernel and the initramfs where GRUB's configuration looks for them. */
export async function installKernel(rootTree: string, kernel: string, initramfs: string): Promise<void> {
  await mkdir(join(rootTree, 'boot'), { recursive: true });
  await copyFile(kernel, join(rootTree, 'boot/vmlinuz'));
  await copyFile(initramfs, join(rootTree, 'boot/initramfs'));
}
