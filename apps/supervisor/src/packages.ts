import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { SupervisorError } from './errors.js';
import { weAreRoot } from './state.js';

const run = promisify(execFile);

/** A Debian 12 package. */
export interface DebianPackage {
  name: string;
  /** What it is there for. */
  job: string;
  /** A file of the package; when it exists, the package need not be installed. */
  file: string;
}

/** What a machine that runs M2 needs beside Node.js. */
export const servicePackages: DebianPackage[] = [
  { name: 'postgresql-15', job: 'database of the services', file: '/usr/lib/postgresql/15/bin/postgres' },
  { name: 'nats-server', job: 'messages between the services', file: '/usr/sbin/nats-server' },
  { name: 'tgt', job: 'iSCSI targets', file: '/usr/sbin/tgtd' },
  { name: 'ipmitool', job: 'power and boot device of nodes', file: '/usr/bin/ipmitool' },
  { name: 'qemu-utils', job: 'reading and converting images', file: '/usr/bin/qemu-img' },
  { name: 'qemu-system-common', job: 'copy-on-write disks as files', file: '/usr/bin/qemu-storage-daemon' },
  { name: 'fuse3', job: 'mounting those files', file: '/usr/bin/fusermount3' },
  { name: 'dnsmasq-base', job: 'DHCP and TFTP', file: '/usr/sbin/dnsmasq' },
  { name: 'ipxe', job: 'first stage for nodes without iPXE', file: '/usr/lib/ipxe/undionly.kpxe' },
];

/** What it needs beside those to keep disks in a Ceph cluster. */
export const rbdPackages: DebianPackage[] = [
  { name: 'librbd1', job: 'images and disks in Ceph', file: '/usr/lib/x86_64-linux-gnu/librbd.so.1' },
  {
    name: 'qemu-block-extra',
    job: 'exporting disks in Ceph',
    file: '/usr/lib/x86_64-linux-gnu/qemu/block-rbd.so',
  },
];

export const missingPackages = (packages: DebianPackage[]): DebianPackage[] =>
  packages.filter(({ file }) => !existsSync(file));

/**
 * Installs the packages that are missing, with apt-get and as root.
 * Throws `supervisor.packages_missing`: not root, no apt-get, or apt-get failed; the remedy is the command to run.
 */
export async function ensurePackages(packages: DebianPackage[], report: (line: string) => void): Promise<void> {
  const missing = missingPackages(packages);
  if (missing.length === 0) return;
  const names = missing.map(({ name }) => name);
  const install = ['install', '--yes', '--no-install-recommends', ...names];
  const refuse = (why: string, cause?: unknown) =>
    new SupervisorError(
      'supervisor.packages_missing',
      `Debian packages are missing: ${missing.map(({ name, job }) => `${name} (${job})`).join(', ')}. ${why}`,
      `As root: apt-get update && apt-get ${install.join(' ')}`,
      { cause },
    );
  if (!weAreRoot()) throw refuse('Only root can install them.');
  report(`installing Debian packages: ${names.join(' ')}`);
  try {
    await aptGet(install);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw refuse('This system has no apt-get.', error);
    // Usually the lists are missing, or name versions that the mirror no longer has.
    report('updating the package lists');
    try {
      await aptGet(['update']);
      await aptGet(install);
    } catch (again) {
      throw refuse(`apt-get failed: ${(again as { stderr?: string }).stderr?.trim() || String(again)}`, again);
    }
  }
  report('the Debian packages are installed');
}

/** Waits for another apt-get to end rather than failing on its lock. */
const aptGet = (args: string[]) =>
  run('apt-get', ['-o', 'DPkg::Lock::Timeout=300', ...args], {
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    maxBuffer: 64 * 1024 * 1024,
  });
