import { copyFile, mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { bootPrograms } from './dnsmasq-config.js';

/** Where Debian's package `ipxe` has them. */
const packaged = '/usr/lib/ipxe';

/**
 * Copies iPXE's programs into `dir`, which TFTP and HTTP serve to anybody: nothing else may be in it. Each start copies again, to
 * follow upgrades of the package. Fails when the package is not installed.
 */
export async function installBootPrograms(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o755 });
  for (const program of Object.values(bootPrograms)) {
    const target = join(dir, program);
    const copy = `${target}.new`;
    await copyFile(join(packaged, program), copy).catch((error: unknown) => {
      throw new Error(`${join(packaged, program)} cannot be copied. Install the package ipxe on this machine.`, {
        cause: error,
      });
    });
    // A node may be reading the old one: replace it, do not overwrite it.
    await rename(copy, target);
  }
}
