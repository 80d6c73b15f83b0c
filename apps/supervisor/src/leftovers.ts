import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { endProcess, type FoundProcess, processesOf, storagePrograms } from './processes.js';
import { type Paths, weAreRoot } from './state.js';

const run = promisify(execFile);

const isStorage = ({ program }: FoundProcess) => storagePrograms.has(program);
const isDatabase = ({ program }: FoundProcess) => program === 'postgres';
const isBus = ({ program }: FoundProcess) => program === 'nats-server';
const isService = (found: FoundProcess) => !isStorage(found) && !isDatabase(found) && !isBus(found);

/**
 * Ends the processes that a killed supervisor left running: services, then NATS, then PostgreSQL, as a living supervisor would. The processes
 * that hold the disks of booted nodes stay: the services adopt them at their next start. Returns the names of the ended processes.
 */
export async function endLeftovers(paths: Paths): Promise<string[]> {
  const found = processesOf(paths.state).filter((process) => !isStorage(process));
  await endAll(found.filter(isService), 'SIGTERM', 20_000);
  await endAll(found.filter(isBus), 'SIGTERM', 10_000);
  await endAll(found.filter(isDatabase), 'SIGINT', 60_000);
  return found.map(({ program }) => program);
}

/**
 * Ends the iSCSI targets and the storage daemons, after the services that own them. Targets are first, because they have the daemons' files
 * open; FUSE mounts that a killed daemon left behind are last. A booted node loses its disk here. Returns the names of the ended processes.
 */
export async function endStorage(paths: Paths): Promise<string[]> {
  const found = processesOf(paths.state).filter(isStorage);
  // tgtd ignores SIGTERM while it has targets, so waiting longer does not help. It keeps no data of its own.
  await endAll(
    found.filter(({ program }) => program === 'tgtd'),
    'SIGTERM',
    300,
  );
  await endAll(
    found.filter(({ program }) => program !== 'tgtd'),
    'SIGTERM',
    15_000,
  );
  for (const mount of fuseMountsBelow(paths.state)) await unmount(mount);
  return found.map(({ program }) => program);
}

async function endAll(processes: FoundProcess[], signal: NodeJS.Signals, deadlineMs: number): Promise<void> {
  await Promise.all(processes.map((process) => endProcess(process, signal, deadlineMs)));
}

/** proc(5), /proc/PID/mountinfo: field 5 is the mount point with \ooo for blanks, the file system's type stands after " - ". */
export function fuseMountsBelow(state: string, mountinfo = readFileSync('/proc/self/mountinfo', 'utf8')): string[] {
  return mountinfo
    .split('\n')
    .filter((line) => / - fuse\b/.test(line))
    .map((line) => (line.split(' ')[4] as string).replace(/\\(\d{3})/g, (_, octal: string) => octet(octal)))
    .filter((mount) => mount.startsWith(`${state}/`));
}

const octet = (octal: string) => String.fromCharCode(parseInt(octal, 8));

/** Lazily: the mount is gone from sight at once, and in truth when the last file in it is closed. */
async function unmount(mount: string): Promise<void> {
  if (weAreRoot()) await run('umount', ['--lazy', mount]);
  else await run('fusermount3', ['-u', '-z', mount]);
}
