import { mkdir, mkdtemp, readdir, readFile, realpath, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { addDiskExport, type DiskExport, exportedDisks, mostDisks, removeDiskExport } from './disk-exports.js';
import { mountsIn, mountTable, unmountLazily } from './mounts.js';
import { isAlive } from './process-identity.js';
import type { Qmp } from './qmp.js';
import { StorageDaemon } from './storage-daemon.js';

let directory: string;
let daemon: StorageDaemon;
let open: Qmp[];
beforeEach(async () => {
  directory = await realpath(await mkdtemp(join(tmpdir(), 'm2-daemon-')));
  daemon = new StorageDaemon(directory);
  open = [];
});
afterEach(async () => {
  for (const qmp of open) qmp.close();
  await daemon.quit();
  await unmountLazily(await mountsIn(directory));
  await rm(directory, { recursive: true });
});

const connected = (qmp: Qmp | undefined) => {
  if (qmp) open.push(qmp);
  return qmp!;
};
const start = async () => connected(await daemon.start());
const adopt = async (mayKill?: () => Promise<void>) => connected(await daemon.adopt(mayKill));

async function newDisk(disk: string): Promise<DiskExport> {
  const [filename, mountpoint] = [join(directory, `${disk}.raw`), join(directory, disk)];
  await writeFile(filename, 'content');
  await truncate(filename, 4096);
  await writeFile(mountpoint, '');
  return { disk, mountpoint, blockdev: { driver: 'raw', file: { driver: 'file', filename } } };
}

describe('a storage daemon', () => {
  it('is found again by whoever comes later, and ends without leaving anything', async () => {
    expect(await adopt()).toBeUndefined();
    (await start()).close();
    const who = (await daemon.recorded())!;
    const qmp = await adopt();
    expect(await daemon.recorded()).toEqual(who);
    expect(await exportedDisks(qmp)).toEqual(new Set());
    await daemon.quit(qmp);
    expect(isAlive(who)).toBe(false);
    expect(await readdir(directory)).toEqual(['daemon.log']);
  });

  it('that hangs is killed, unless who adopts it has reasons not to', async () => {
    (await start()).close();
    const who = (await daemon.recorded())!;
    process.kill(who.pid, 'SIGSTOP');
    await expect(adopt(() => Promise.reject(new Error('its storage is away')))).rejects.toThrow('is away');
    expect(isAlive(who)).toBe(true);
    expect(await adopt()).toBeUndefined();
    expect(isAlive(who)).toBe(false);
  });

  it('that aborts as it starts is started once more', async () => {
    const path = process.env['PATH']!;
    const program = join(directory, 'qemu-storage-daemon');
    const once = `[ -e '${directory}/aborted' ] && PATH='${path}' exec qemu-storage-daemon "$@"`;
    await writeFile(program, `#!/bin/sh\n${once}\n: > '${directory}/aborted'\nkill -ABRT $$\n`, { mode: 0o700 });
    process.env['PATH'] = `${directory}:${path}`;
    try {
      expect(await exportedDisks(await start())).toEqual(new Set());
      await writeFile(program, `#!/bin/sh\nkill -ABRT $$\n`);
      const other = new StorageDaemon(directory);
      await daemon.quit();
      await expect(other.start()).rejects.toMatchObject({ code: 'daemon.unavailable' });
    } finally {
      process.env['PATH'] = path;
    }
  });

  it('says so when its directory is too deep for a socket', async () => {
    const deep = new StorageDaemon(join(directory, 'x'.repeat(100)));
    await expect(deep.adopt()).rejects.toMatchObject({ code: 'daemon.misconfigured' });
  });

  it('refuses with its own words', async () => {
    const qmp = await start();
    await expect(qmp.execute('blockdev-del', { 'node-name': 'nobody' })).rejects.toMatchObject({
      code: 'daemon.unavailable',
      message: expect.stringContaining('nobody'),
    });
  });

  it('that hangs in the middle of a command is an error in time', async () => {
    const qmp = await start();
    process.kill((await daemon.recorded())!.pid, 'SIGSTOP');
    await expect(qmp.execute('query-block-exports', {}, 50)).rejects.toMatchObject({ code: 'daemon.timeout' });
  });
});

describe('a disk export', () => {
  it('is a file on a mount of its own, until it is removed', async () => {
    const [qmp, disk] = [await start(), await newDisk('one')];
    const before = await mountTable();
    await addDiskExport(qmp, disk, 0);
    expect((await readFile(disk.mountpoint)).toString('latin1', 0, 7)).toBe('content');
    expect([before.has(disk.mountpoint), (await mountTable()).get(disk.mountpoint)]).toEqual([
      false,
      expect.any(Number),
    ]);
    expect(await mountsIn(directory)).toEqual([disk.mountpoint]);
    expect(await exportedDisks(qmp)).toEqual(new Set(['one']));
    await removeDiskExport(qmp, 'one');
    expect(await mountsIn(directory)).toEqual([]);
    await addDiskExport(qmp, disk, 0);
  });

  it('that fails leaves nothing: no device, no thread, no mount', async () => {
    const [qmp, disk] = [await start(), await newDisk('one')];
    const failing = { ...disk, onOpened: () => Promise.reject(new Error('as the test says')) };
    await expect(addDiskExport(qmp, failing, 0)).rejects.toThrow('as the test says');
    await expect(addDiskExport(qmp, { ...disk, mountpoint: join(directory, 'nowhere') }, 0)).rejects.toThrow('nowhere');
    expect(await qmp.execute('query-named-block-nodes', { flat: true })).toEqual([]);
    await addDiskExport(qmp, disk, 0);
  });

  it('that was half made or half removed is taken back by who asks what there is', async () => {
    const [qmp, disk] = [await start(), await newDisk('one')];
    await addDiskExport(qmp, disk, 0);
    const gone = qmp.event('BLOCK_EXPORT_DELETED', 'disk-one');
    await qmp.execute('block-export-del', { id: 'disk-one', mode: 'hard' });
    await gone;
    expect(await exportedDisks(qmp)).toEqual(new Set());
    expect(await qmp.execute('query-named-block-nodes', { flat: true })).toEqual([]);
  });

  it('is one of as many as a daemon shows, and one more is refused before anything is made', async () => {
    const qmp = await start();
    for (let n = 0; n < mostDisks; n += 1) await addDiskExport(qmp, await newDisk(`d${n}`), n);
    const nodes = (await qmp.execute('query-named-block-nodes', { flat: true })) as unknown[];
    await expect(addDiskExport(qmp, await newDisk('more'), mostDisks)).rejects.toMatchObject({ code: 'daemon.full' });
    expect(await qmp.execute('query-named-block-nodes', { flat: true })).toHaveLength(nodes.length);
    await removeDiskExport(qmp, 'd0');
    await addDiskExport(qmp, await newDisk('more'), mostDisks - 1);
  });

  it('is unmounted by name when its daemon was killed', async () => {
    const qmp = await start();
    await mkdir(join(directory, 'with blank'));
    const disk = { ...(await newDisk('one')), mountpoint: join(directory, 'with blank', 'one') };
    await writeFile(disk.mountpoint, '');
    await addDiskExport(qmp, disk, 0);
    process.kill((await daemon.recorded())!.pid, 'SIGKILL');
    await qmp.closed;
    expect(await mountsIn(join(directory, 'with blank'))).toEqual([disk.mountpoint]);
    await unmountLazily([disk.mountpoint]);
    expect(await mountsIn(join(directory, 'with blank'))).toEqual([]);
  });
});
