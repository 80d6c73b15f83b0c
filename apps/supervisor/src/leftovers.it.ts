import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { endLeftovers, endStorage, fuseMountsBelow } from './leftovers.js';
import { isAlive, markVariable, processesOf, processRef, type ProcessRef } from './processes.js';
import { ensureState, type Paths } from './state.js';
import { until } from './testing/installation.js';

let parent: string;
let paths: Paths;
const started: ChildProcess[] = [];

/** A process that outlives its parent, as tgtd and the storage daemon do. */
const start = (command: string, args: string[], env: Record<string, string> = {}): ProcessRef => {
  const child = spawn(command, args, { detached: true, stdio: 'ignore', env: { PATH: '/usr/bin:/usr/sbin', ...env } });
  started.push(child);
  return processRef(child.pid as number) as ProcessRef;
};

beforeEach(() => {
  parent = realpathSync(mkdtempSync(join(tmpdir(), 'm2l-')));
  paths = ensureState(join(parent, 'state'));
});
afterEach(async () => {
  await endStorage(paths);
  for (const child of started.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  rmSync(parent, { recursive: true, force: true });
});

/** A disk shown as a file through FUSE, as image-svc does it. */
const storageDaemon = async (): Promise<{ process: ProcessRef; mount: string }> => {
  const mount = join(paths.storage, 'a disk');
  // It has to be there before the daemon is.
  writeFileSync(mount, '');
  const raw = join(paths.storage, 'disk.raw');
  writeFileSync(raw, Buffer.alloc(1024 * 1024));
  const daemon = start('qemu-storage-daemon', [
    `--blockdev=driver=file,node-name=disk,filename=${raw}`,
    `--export=type=fuse,id=disk,node-name=disk,mountpoint=${mount},writable=on`,
  ]);
  await until('the disk is mounted', () => fuseMountsBelow(paths.state).includes(mount));
  return { process: daemon, mount };
};

describe('leftovers', () => {
  it('ends services and what they started, and leaves the disks of booted nodes alone', async () => {
    const service = start(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { [markVariable]: paths.state });
    const helper = start('sleep', ['1000'], { [markVariable]: paths.state });
    const { process: daemon } = await storageDaemon();
    expect((await endLeftovers(paths)).sort()).toEqual(['node', 'sleep']);
    expect([service, helper, daemon].map(isAlive)).toEqual([false, false, true]);
  });

  it('does not touch another installation, nor who only looks at ours', async () => {
    const other = start('sleep', ['1000'], { [markVariable]: `${paths.state}2` });
    const viewer = start('tail', ['-f', join(paths.state, 'config.json'), '/dev/null']);
    const nested = start('sleep', ['1000'], { [markVariable]: join(parent, 'srv', paths.state) });
    expect(await endLeftovers(paths)).toEqual([]);
    expect(await endStorage(paths)).toEqual([]);
    expect([other, viewer, nested].map(isAlive)).toEqual([true, true, true]);
  });

  it('ends a tgtd, which is known by the socket in its environment only', async () => {
    const socket = join(paths.targets, 'tgtd');
    const tgtd = start('tgtd', ['-f', '-C', `${20_000 + (process.pid % 10_000)}`, '--iscsi', 'portal=127.0.0.1:0'], {
      TGT_IPC_SOCKET: socket,
    });
    await until('tgtd is seen', () => processesOf(paths.state).length === 1);
    expect(await endStorage(paths)).toEqual(['tgtd']);
    expect(isAlive(tgtd)).toBe(false);
  });

  it('unmounts what a killed storage daemon left mounted', async () => {
    const { process: daemon } = await storageDaemon();
    process.kill(daemon.pid, 'SIGKILL');
    await until('the daemon is gone', () => !isAlive(daemon));
    expect(fuseMountsBelow(paths.state)).toHaveLength(1);
    await endStorage(paths);
    expect(fuseMountsBelow(paths.state)).toEqual([]);
  });
});
