import { chmod, copyFile, mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '../process/run.js';
import { modulesInLoadOrder } from './kernel.js';

/** Read from the sources: the compiler copies no shell scripts, and src and dist are equally deep. */
const guest = fileURLToPath(new URL('../../src/image/guest/', import.meta.url));

/** The scripts that run in the node; part of the image's cache key. */
export async function guestFiles(): Promise<string[]> {
  return (await readdir(guest)).map((file) => join(guest, file));
}

export const BUSYBOX = '/usr/bin/busybox';
export const ISCSISTART = '/usr/sbin/iscsistart';

/** What a node needs from power on to its root: a virtio nic, iSCSI over it, a disk; and the power button. */
const MODULES = ['virtio_pci', 'virtio_net', 'sd_mod', 'iscsi_tcp', 'iscsi_ibft', 'button', 'evdev'];

async function installScript(tree: string, source: string, target: string): Promise<void> {
  await mkdir(dirname(join(tree, target)), { recursive: true });
  await copyFile(join(guest, source), join(tree, target));
  await chmod(join(tree, target), 0o755);
}

async function installBusybox(tree: string): Promise<void> {
  await mkdir(join(tree, 'bin'), { recursive: true });
  await copyFile(BUSYBOX, join(tree, 'bin/busybox'));
  await chmod(join(tree, 'bin/busybox'), 0o755);
  const applets = (await run(BUSYBOX, ['--list'])).split('\n').filter((applet) => applet && applet !== 'busybox');
  await Promise.all(applets.map((applet) => symlink('busybox', join(tree, 'bin', applet))));
}

/** The shared libraries of a dynamic program, its loader among them, as `ldd` finds them. */
export async function sharedLibraries(program: string): Promise<string[]> {
  return [...(await run('ldd', [program])).matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? '');
}

/** Writes the initramfs: busybox, the modules and iscsistart, started by our own /init. Packs it as zstd cpio. */
export async function buildInitramfs(tree: string, modulesDir: string, target: string): Promise<void> {
  // iscsistart wants to write its node database below /etc, and stops when it cannot.
  for (const dir of ['dev', 'proc', 'sys', 'root', 'modules', 'etc', 'run'])
    await mkdir(join(tree, dir), { recursive: true });
  await installBusybox(tree);
  await installScript(tree, 'initramfs-init.sh', 'init');

  const modules = await modulesInLoadOrder(modulesDir, MODULES);
  for (const file of modules) await copyFile(file, join(tree, 'modules', basename(file)));
  await writeFile(join(tree, 'modules/order'), modules.map((file) => `${basename(file)}\n`).join(''));

  for (const file of [ISCSISTART, ...(await sharedLibraries(ISCSISTART))]) {
    const place = file === ISCSISTART ? '/bin/iscsistart' : file;
    await mkdir(join(tree, dirname(place)), { recursive: true });
    await copyFile(file, join(tree, place));
  }
  await packCpio(tree, target);
}

async function packCpio(tree: string, target: string): Promise<void> {
  const entries = (await readdir(tree, { recursive: true })).sort();
  const archive = `${target}.cpio`;
  await run('cpio', ['-o', '-H', 'newc', '-R', '0:0', '--reproducible', '--quiet', '-F', archive], {
    cwd: tree,
    input: `${entries.join('\n')}\n`,
  });
  await run('zstd', ['-q', '-9', '--rm', '-f', '-o', target, archive]);
}

/** Writes the root file system's tree: busybox, its init and the scripts that count boots and phone home. */
export async function buildRootTree(tree: string): Promise<void> {
  for (const dir of ['dev', 'proc', 'sys', 'run', 'tmp', 'root', 'boot', 'var/lib/m2', 'sbin', 'etc']) {
    await mkdir(join(tree, dir), { recursive: true });
  }
  await installBusybox(tree);
  await symlink('../bin/busybox', join(tree, 'sbin/init'));
  await copyFile(join(guest, 'inittab'), join(tree, 'etc/inittab'));
  for (const script of ['boot', 'phone-home', 'dhcp-query', 'shutdown']) {
    await installScript(tree, script, `etc/m2/${script}`);
  }
  // The path that busybox's acpid runs when the power button is pressed.
  await installScript(tree, 'power-button', 'etc/acpi/PWRF/00000080');
}
