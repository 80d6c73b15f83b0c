import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { withFileLock } from '../process/file-lock.js';
import { run } from '../process/run.js';
import { buildDisk, DISK_BYTES, GRUB_DIR, installKernel } from './disk.js';
import { downloadKernel, findKernelPackage } from './kernel.js';
import { buildInitramfs, buildRootTree, BUSYBOX, guestFiles, ISCSISTART, sharedLibraries } from './trees.js';

export interface LabImage {
  /** The raw disk image. It is shared by all who use this cache: copy it, never write to it. */
  path: string;
  bytes: number;
  sha256: string;
  /** False when the image was in the cache already. */
  built: boolean;
}

/**
 * A small Linux that boots from an iSCSI disk by BIOS or UEFI, counts its boots on that disk and phones home.
 * Made once per set of inputs and kept in `cacheDir`; several builders may work in one cache at once. Needs no root.
 * The first build downloads a kernel of 27 MB through apt.
 */
export async function buildLabImage(cacheDir = defaultCacheDir()): Promise<LabImage> {
  await mkdir(cacheDir, { recursive: true });
  const kernel = await findKernelPackage();
  const path = join(cacheDir, `lab-${await inputsKey(kernel)}.raw`);
  return withFileLock(join(cacheDir, 'lock'), async () => {
    const sum = await readFile(`${path}.sha256`, 'utf8').catch(() => undefined);
    if (sum) return { path, bytes: DISK_BYTES, sha256: sum.trim(), built: false };

    const work = await mkdtemp(join(cacheDir, 'build-'));
    try {
      const image = join(work, 'disk.raw');
      await assemble(work, await downloadKernel(join(cacheDir, 'debs'), kernel), image);
      const sha256 = createHash('sha256')
        .update(await readFile(image))
        .digest('hex');
      await rename(image, path);
      // Last: this file says that the image beside it is whole.
      await writeFile(join(work, 'sum'), `${sha256}\n`);
      await rename(join(work, 'sum'), `${path}.sha256`);
      return { path, bytes: DISK_BYTES, sha256, built: true };
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  });
}

/** Shared by all tests and demos of this user, so that the image is built once. */
function defaultCacheDir(): string {
  return join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'm2-lab');
}

async function assemble(work: string, kernelDeb: string, target: string): Promise<void> {
  const kernelTree = join(work, 'kernel');
  await run('dpkg', ['-x', kernelDeb, kernelTree]);
  const [release] = await readdir(join(kernelTree, 'lib/modules'));
  if (!release) throw new Error(`${kernelDeb} holds no kernel modules`);

  const initramfs = join(work, 'initramfs.zst');
  await buildInitramfs(join(work, 'initramfs'), join(kernelTree, 'lib/modules', release), initramfs);
  const root = join(work, 'root');
  await buildRootTree(root);
  await installKernel(root, join(kernelTree, 'boot', `vmlinuz-${release}`), initramfs);
  await buildDisk(work, root, target);
}

/** A hash over everything that goes into the image: the kernel's version, programs of this machine, our own recipe. */
async function inputsKey(kernel: { name: string; version: string }): Promise<string> {
  const here = fileURLToPath(new URL('.', import.meta.url));
  const recipe = (await readdir(here)).filter((file) => /^(disk|trees|kernel)\.[jt]s$/.test(file));
  const files = [
    BUSYBOX,
    ISCSISTART,
    `${GRUB_DIR}/i386-pc/kernel.img`,
    `${GRUB_DIR}/x86_64-efi/kernel.img`,
    ...(await sharedLibraries(ISCSISTART)),
    ...(await guestFiles()),
    ...recipe.map((file) => join(here, file)),
  ];
  const hash = createHash('sha256').update(`${kernel.name} ${kernel.version}`);
  for (const file of files.sort()) hash.update(`${file}\0`).update(await readFile(file));
  return hash.digest('hex').slice(0, 16);
}
