import type { LabCeph } from '@m2/lab';
import { ownCeph } from '@m2/lab/testing';
import { identify, isAlive, mountTable, unmountLazily } from '@m2/storage-daemon';
import { readdirSync, readFileSync } from 'node:fs';
import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { Backings } from './backings.js';
import { TestCluster, hang, recover, type TestProject } from './ceph.fixture.js';
import type { RbdBacking } from './rbd-disk.js';

const MiB = 2 ** 20;

let cluster: TestCluster<LabCeph>;
beforeAll(async () => {
  cluster = await TestCluster.open(ownCeph);
});
afterAll(() => cluster?.close());

let backings: Backings;
beforeEach(async () => {
  backings = await cluster.backings();
});
afterEach(() => backings.stopAll());

/** The service is restarted. */
async function restart(): Promise<void> {
  await backings.close();
  backings = await cluster.backings();
}

async function setUp(): Promise<{ project: TestProject; disk: RbdBacking; path: string }> {
  const project = await cluster.project();
  const disk = await cluster.image(project);
  return { project, disk, path: await backings.ensureFile(project.id, disk) };
}

const daemonOf = async ({ id }: TestProject) => identify((await cluster.daemons()).get(id)!)!;

/** Kills the project's daemon as a crash would, and waits until it is gone. */
async function crash(project: TestProject): Promise<void> {
  const daemon = await daemonOf(project);
  process.kill(daemon.pid, 'SIGKILL');
  await vi.waitFor(() => expect(isAlive(daemon)).toBe(false));
}

/** Writes 4 KiB of `byte` at the file's start, as a target does, and makes them durable. */
async function write(path: string, byte: number): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.write(Buffer.alloc(4096, byte), 0, 4096, 0);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** The content of the image as another client reads it. */
async function firstByte(disk: RbdBacking): Promise<number> {
  const image = await cluster.rbd.openImage(disk, { readOnly: true });
  try {
    return (await image.read(0, 1))[0]!;
  } finally {
    await image.close();
  }
}

/** A cluster on a busy machine needs a while to recover. */
const afterOutage = <T>(work: () => Promise<T>) => vi.waitFor(work, { timeout: 90_000, interval: 100 });

const ownersOf = async (disk: RbdBacking) => (await cluster.rbd.lockOwners(disk)).map(({ address }) => address);

describe('an RBD image', () => {
  it('is a file of its size, and what is flushed to the file is in the image', async () => {
    const { project, disk, path } = await setUp();
    expect((await readFile(path)).length).toBe(4 * MiB);
    await write(path, 0x5a);
    expect(await firstByte(disk)).toBe(0x5a);
    expect(backings.path(project.id, disk)).toBe(path);
  });

  it('stays open when it is asked for again, also by a service that has just started', async () => {
    const { project, disk, path } = await setUp();
    const [daemon, before] = [await daemonOf(project), (await mountTable()).get(path)];
    expect(await backings.ensureFile(project.id, disk)).toBe(path);
    await restart();
    expect(await backings.observe(project.id)).toEqual([{ backing: disk, path }]);
    expect(await backings.ensureFile(project.id, disk)).toBe(path);
    expect(await daemonOf(project)).toEqual(daemon);
    expect((await mountTable()).get(path)).toBe(before);
  });

  it('can be removed once it is closed, and its daemon ends with its last one', async () => {
    const { project, disk, path } = await setUp();
    const other = await cluster.image(project);
    await backings.ensureFile(project.id, other);
    const daemon = await daemonOf(project);
    await write(path, 1);
    await expect(cluster.rbd.remove(disk)).rejects.toMatchObject({ code: 'busy' });
    await backings.ensureNoFile(project.id, disk);
    await cluster.rbd.remove(disk);
    expect(isAlive(daemon)).toBe(true);
    await backings.ensureNoFile(project.id, other);
    await cluster.rbd.remove(other);
    expect(isAlive(daemon)).toBe(false);
    expect((await cluster.daemons()).has(project.id)).toBe(false);
    expect((await mountTable()).has(path)).toBe(false);
    await backings.ensureNoFile(project.id, other);
    expect(backings.pools()).toEqual([]);
  });

  it('that is not there is said to be missing, and nothing is left', async () => {
    const project = await cluster.project();
    const disk = { ...(await cluster.image(project)), image: 'm1img0' };
    await expect(backings.ensureFile(project.id, disk)).rejects.toMatchObject({
      code: 'target.no_backing',
      message: expect.stringContaining(`${project.id}/m1img0`),
    });
    await backings.ensureNoFile(project.id, disk);
    expect(backings.pools()).toEqual([]);
  });

  it('is opened again when somebody took its file away', async () => {
    const { project, disk, path } = await setUp();
    await unmountLazily([path]);
    expect(await backings.ensureFile(project.id, disk)).toBe(path);
    await write(path, 3);
    expect(await firstByte(disk)).toBe(3);
  });
});

describe('the daemon of a project', () => {
  it("does not open another project's image", async () => {
    const [mine, others] = [await cluster.project(), await cluster.project()];
    const foreign = { ...(await cluster.image(others)), user: mine.user };
    await expect(backings.ensureFile(mine.id, foreign)).rejects.toMatchObject({
      code: 'target.no_backing',
      message: expect.stringMatching(/not permitted/i),
    });
    await backings.ensureNoFile(mine.id, foreign);
  });

  it('is one of its own', async () => {
    const [one, two] = [await setUp(), await setUp()];
    expect((await daemonOf(one.project)).pid).not.toBe((await daemonOf(two.project)).pid);
    await crash(one.project);
    await write(two.path, 2);
    expect(await firstByte(two.disk)).toBe(2);
  });

  it('has the key of its user where nobody can read it', async () => {
    const { project } = await setUp();
    const { pid } = await daemonOf(project);
    const directory = join(cluster.directory, 'iscsi');
    const files = readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !entry.parentPath.endsWith('/disks'))
      .map((entry) => join(entry.parentPath, entry.name));
    expect(files.length).toBeGreaterThan(3);
    for (const file of [...files, `/proc/${pid}/cmdline`, `/proc/${pid}/environ`])
      expect(readFileSync(file, 'latin1')).not.toContain(project.key);
  });

  it('that dies is reported, and its disks are back with what was flushed, the dead client fenced', async () => {
    const { project, disk, path } = await setUp();
    const lost = vi.fn<(pool: string) => void>();
    backings.onLost(lost);
    await write(path, 7);
    const [dead] = await ownersOf(disk);
    expect(dead).toBeDefined();
    await crash(project);
    await vi.waitFor(() => expect(lost.mock.calls).toEqual([[project.id]]));
    expect(await backings.ensureFile(project.id, disk)).toBe(path);
    expect(await firstByte(disk)).toBe(7);
    expect(await cluster.fenced()).toContain(dead);
    await write(path, 8);
    expect(await firstByte(disk)).toBe(8);
    const owners = await ownersOf(disk);
    expect(owners).toHaveLength(1);
    expect(owners).not.toContain(dead);
  });

  it('that dies while the service is away is replaced, and its client fenced', async () => {
    const { project, disk, path } = await setUp();
    await write(path, 9);
    const [dead] = await ownersOf(disk);
    await backings.close();
    await crash(project);
    backings = await cluster.backings();
    // Its dead mount is gone, so a comparison with what a target has open shows that it is another file.
    expect(await backings.observe(project.id)).toEqual([{ backing: disk, path }]);
    expect((await mountTable()).has(path)).toBe(false);
    await backings.ensureFile(project.id, disk);
    expect(await cluster.fenced()).toContain(dead);
    await write(path, 10);
    expect(await firstByte(disk)).toBe(10);
  });

  it('that died keeps no volume from being removed', async () => {
    const { project, disk, path } = await setUp();
    await write(path, 1);
    const [dead] = await ownersOf(disk);
    await crash(project);
    await backings.ensureNoFile(project.id, disk);
    expect(await cluster.fenced()).toContain(dead);
    await cluster.rbd.remove(disk);
  });

  it('fences nobody else who has the image open', async () => {
    const { project, disk, path } = await setUp();
    await write(path, 1);
    const service = await cluster.rbd.openImage(disk);
    await crash(project);
    await backings.ensureFile(project.id, disk);
    await service.write(0, Buffer.alloc(4096, 2));
    const [owner] = await ownersOf(disk);
    await write(path, 3);
    expect(await firstByte(disk)).toBe(3);
    expect(await cluster.fenced()).not.toContain(owner);
    await service.write(0, Buffer.alloc(4096, 4));
    await service.close();
    expect(await firstByte(disk)).toBe(4);
  });
});

describe('a cluster that hangs', () => {
  it('is an error in time; what is open waits, nothing of ours blocks, and all is well when it is back', async () => {
    const { project, disk, path } = await setUp();
    const other = await setUp();
    const closed = await cluster.image(project);
    const daemon = await daemonOf(project);
    await hang(cluster.ceph);
    try {
      const hung = { code: 'target.no_backing', message: expect.stringContaining(closed.image) };
      await expect(backings.ensureFile(project.id, closed)).rejects.toMatchObject(hung);
      expect(await backings.ensureFile(project.id, disk)).toBe(path);
      await restart();
      expect(await backings.observe(project.id)).toEqual([{ backing: disk, path }]);
      await expect(backings.ensureFile(project.id, closed)).rejects.toMatchObject(hung);
      // More than Node has threads for files.
      await Promise.all(Array.from({ length: 8 }, (_, i) => writeFile(join(cluster.directory, `free-${i}`), '')));
    } finally {
      await recover(cluster.ceph);
    }
    await afterOutage(() => backings.ensureFile(project.id, closed));
    await write(path, 11);
    await write(other.path, 12);
    expect([await firstByte(disk), await firstByte(other.disk)]).toEqual([11, 12]);
    expect(await daemonOf(project)).toEqual(daemon);
  });

  it('without its monitor is an error in time', async () => {
    const { project } = await setUp();
    const closed = await cluster.image(project);
    await cluster.ceph.stopMon();
    try {
      await expect(backings.ensureFile(project.id, closed)).rejects.toMatchObject({ code: 'target.no_backing' });
    } finally {
      await cluster.ceph.startMon();
    }
    await afterOutage(() => backings.ensureFile(project.id, closed));
  });
});

it('no cluster at all leaves files as they are, and says what to set', async () => {
  const files = await Backings.open({ directory: '/unused' });
  expect(await files.ensureFile('p', { type: 'file', path: '/a/b' })).toBe('/a/b');
  const rbd: RbdBacking = { type: 'rbd', pool: 'p', namespace: 'n', image: 'i', user: 'u' };
  await expect(files.ensureFile('p', rbd)).rejects.toThrow('M2_CEPH_CONF');
});
