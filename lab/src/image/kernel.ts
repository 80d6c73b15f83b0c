import { mkdir, readdir, readFile, rename } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { run } from '../process/run.js';

const META_PACKAGE = 'linux-image-cloud-amd64';

/** Names the Debian package (and its version) that carries the newest cloud kernel of this machine's package lists. */
export async function findKernelPackage(): Promise<{ name: string; version: string }> {
  const shown = await run('apt-cache', ['show', '--no-all-versions', META_PACKAGE]).catch(() => '');
  const [, name, version] = /^Depends: (linux-image-\S+) \(= (\S+)\)/m.exec(shown) ?? [];
  if (!name || !version) {
    throw Object.assign(new Error(`No ${META_PACKAGE} in the package lists: run "apt-get update" as root once.`), {
      code: 'lab.no_kernel_package',
    });
  }
  return { name, version };
}

/** Downloads the kernel package into `debsDir` (kept there for the next build) and returns the .deb's path. */
export async function downloadKernel(debsDir: string, kernel: { name: string; version: string }): Promise<string> {
  const deb = join(debsDir, `${kernel.name}_${kernel.version.replaceAll(':', '%3a')}.deb`);
  const partial = join(debsDir, 'partial');
  await mkdir(partial, { recursive: true });
  if ((await readdir(debsDir)).includes(basename(deb))) return deb;
  const wanted = `${kernel.name}=${kernel.version}`;
  await run('apt-get', ['download', wanted], { cwd: partial, deadlineMs: 600_000 }).catch((error: unknown) => {
    const remedy = 'when it is no longer offered, run "apt-get update" as root';
    throw Object.assign(new Error(`Cannot download ${wanted}; ${remedy}.`, { cause: error }), {
      code: 'lab.no_kernel_package',
    });
  });
  const downloaded = (await readdir(partial)).find((file) => file.startsWith(`${kernel.name}_`));
  await rename(join(partial, downloaded ?? ''), deb);
  return deb;
}

/**
 * The .ko files needed for `wanted`, each after those that it depends on.
 * Debian makes modules.dep when a kernel is installed, and ours never is: the names come from each module's own
 * .modinfo section (`depends=a,b` and a zero byte), which is where depmod looks too.
 */
export async function modulesInLoadOrder(modulesDir: string, wanted: string[]): Promise<string[]> {
  const files = new Map<string, string>();
  for (const entry of await readdir(modulesDir, { recursive: true })) {
    if (entry.endsWith('.ko')) files.set(basename(entry, '.ko').replaceAll('-', '_'), join(modulesDir, entry));
  }
  const ordered = new Set<string>();
  const visit = async (name: string): Promise<void> => {
    const file = files.get(name);
    if (!file) throw new Error(`The kernel has no module ${name}; is it built in now?`);
    if (ordered.has(file)) return;
    const depends = /\0depends=([^\0]*)\0/.exec(await readFile(file, 'latin1'))?.[1] ?? '';
    for (const other of depends.split(',').filter(Boolean)) await visit(other.replaceAll('-', '_'));
    ordered.add(file);
  };
  for (const name of wanted) await visit(name);
  return [...ordered];
}
