import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';

const packages = ['postgresql-15', 'nats-server', 'tgt', 'qemu-system-x86', 'ipxe-qemu', 'openipmi', 'ipmitool'];
const storagePackages = { file: [], ceph: ['ceph-mon', 'ceph-osd', 'librbd1'] };

/** What took part, by name: M2, Node.js, and the Debian packages. */
export async function versions(storage: keyof typeof storagePackages): Promise<Record<string, string>> {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  const names = [...packages, ...storagePackages[storage]];
  const query = await promisify(execFile)('dpkg-query', ['-W', '-f', '${Package} ${Version}\\n', ...names]).catch(
    // It fails when one of them is not installed, and still says what the others are.
    (error: { stdout?: string }) => ({ stdout: error.stdout ?? '' }),
  );
  const installed = query.stdout
    .trim()
    .split('\n')
    .map((line) => line.split(' ') as [string, string])
    .filter(([name, found]) => name && found);
  return { m2: version, node: process.versions.node, ...Object.fromEntries(installed) };
}
