import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openFile } from '../../storage.conformance.js';
import type { DiskVolume, Readable } from '../../storage.port.js';
import { copySnapshot } from './copy.js';
import { ZfsBackend } from './zfs-backend.js';
import { ZfsCommand } from './zfs-command.js';
import { startZfsPool, whyNoZfs, zfsFuseLock } from './zfs-pool.fixture.js';
import type { ZfsPool } from './zfs-pool.fixture.js';

const reason = await whyNoZfs();
// Here, and not in a hook with its time limit: the test that has the lock may need minutes.
const endTurn = reason === undefined ? await zfsFuseLock() : undefined;
const sizeBytes = 8 * 2 ** 20;

describe.skipIf(reason !== undefined)(`ZFS storage after crashes${reason ? ` (not here: ${reason})` : ''}`, () => {
  const image = randomBytes(sizeBytes);
  let [directory, source] = ['', ''];
  let pool: ZfsPool;
  let backend: ZfsBackend;
  let disk: DiskVolume;
  let path: string;
  let tests = 0;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'm2-zfs-image-'));
    source = join(directory, 'image.raw');
    await writeFile(source, image);
    pool = await startZfsPool();
  });
  afterAll(async () => {
    await pool?.destroy();
    await rm(directory, { recursive: true });
    await endTurn?.();
  });

  beforeEach(async () => {
    disk = { project: randomUUID(), name: `r${++tests}img1` };
    path = `${pool.dataset}/disks/${disk.project}/${disk.name}`;
    backend = await ZfsBackend.open({ dataset: pool.dataset });
    await backend.ensureGolden(golden(), { path: source, format: 'raw' });
    await backend.ensureClone({ golden: golden() }, disk);
  });
  afterEach(() => backend.close());

  const golden = (n = 0) => `r${tests}ximg${n}`;
  const reopen = async () => {
    await backend.close();
    backend = await ZfsBackend.open({ dataset: pool.dataset });
  };
  const mine = async () =>
    (await backend.list()).filter(({ name }) => name === disk.name || name.startsWith(`r${tests}ximg`));
  const datasets = async () =>
    (await pool.zfs('list', '-H', '-r', '-t', 'filesystem,snapshot', '-o', 'name', pool.dataset))
      .split('\n')
      .filter((name) => name.includes(disk.name) || name.includes(`/readers/`));
  const content = async (readable: Readable) => {
    const reader = await backend.openReader(readable);
    try {
      return await reader.read(0, reader.sizeBytes);
    } finally {
      await reader.close();
    }
  };

  it('an import that was interrupted is listed, done again, and removed', async () => {
    await pool.zfs('create', `${pool.dataset}/golden/${golden(1)}`);
    expect(await mine()).toContainEqual({ name: golden(1), project: null, kind: 'partial', sizeBytes: 0, tags: [] });
    await expect(backend.ensureClone({ golden: golden(1) }, { ...disk, name: golden(2) })).rejects.toMatchObject({
      code: 'storage.not_found',
    });
    await backend.ensureGolden(golden(1), { path: source, format: 'raw' });
    expect((await content({ golden: golden(1) })).equals(image)).toBe(true);
    await pool.zfs('create', `${pool.dataset}/golden/${golden(3)}`);
    await backend.ensureNoGolden(golden(3));
    expect((await mine()).map(({ name }) => name)).not.toContain(golden(3));
  });

  it('a copy whose size is not known yet is no golden volume', async () => {
    await backend.ensureTag(disk, 'deep');
    const from = { snapshot: `${path}@deep`, sizeBytes };
    await copySnapshot(new ZfsCommand(), from, `${pool.dataset}/golden/${golden(1)}@golden`, {});
    expect((await mine()).find(({ name }) => name === golden(1))).toMatchObject({ kind: 'partial' });
    await backend.ensureGolden(golden(1), { disk, tag: 'deep' });
    expect((await content({ golden: golden(1) })).equals(image)).toBe(true);
  });

  it('a clone that was interrupted is listed, done again, and removed', async () => {
    const half = { ...disk, name: golden(1) };
    const make = () =>
      pool.zfs('clone', `${pool.dataset}/golden/${golden()}@golden`, path.replace(disk.name, half.name));
    await make();
    expect((await mine()).find(({ name }) => name === half.name)).toMatchObject({ ...half, kind: 'partial' });
    await expect(backend.ensureAttached(half)).rejects.toMatchObject({ code: 'storage.not_found' });
    await backend.ensureClone({ golden: golden() }, half);
    expect((await content({ disk: half })).equals(image)).toBe(true);
    await backend.ensureNoDisk(half);
    await make();
    await backend.ensureNoDisk(half);
    expect((await mine()).map(({ name }) => name)).not.toContain(half.name);
  });

  it('killed while it makes a disk flat: the disk is a clone still, and nothing is left of the copy', async () => {
    await pool.zfs('snapshot', `${path}@m2-flat`);
    await pool.zfs('create', `${path}.flat`);
    expect((await mine()).filter(({ name }) => name === disk.name)).toMatchObject([{ kind: 'disk', sizeBytes }]);
    await reopen();
    expect(await datasets()).toEqual([path]);
    await expect(backend.ensureNoGolden(golden())).rejects.toMatchObject({ code: 'storage.in_use' });
    await backend.ensureFlat(disk);
    expect(await datasets()).toEqual([`${path}.flat`]);
    await backend.ensureNoGolden(golden());
    expect((await content({ disk })).equals(image)).toBe(true);
  });

  it('killed when a disk has just become flat: it is, and what it was goes, but for its tags', async () => {
    const become = async (at: string) => {
      await pool.zfs('snapshot', `${at}@m2-flat`);
      await copySnapshot(new ZfsCommand(), { snapshot: `${at}@m2-flat`, sizeBytes }, `${at}.flat@m2-flat`, {});
      await pool.zfs('set', `m2:size=${sizeBytes}`, `${at}.flat`);
    };
    const tagged = { ...disk, name: golden(1) };
    const taggedPath = path.replace(disk.name, tagged.name);
    await backend.ensureClone({ golden: golden() }, tagged);
    await backend.ensureTag(tagged, 'old');
    await become(path);
    await become(taggedPath);
    await reopen();
    expect(await datasets()).toEqual([`${path}.flat`]);
    expect((await mine()).find(({ name }) => name === tagged.name)).toMatchObject({ kind: 'disk', tags: ['old'] });
    await backend.ensureNoTag(tagged, 'old');
    await backend.ensureNoGolden(golden());
    for (const it of [disk, tagged]) expect((await content({ disk: it })).equals(image)).toBe(true);
  });

  it('a flat disk with forks of its old tags stays whole when its removal is refused', async () => {
    const fork = { ...disk, name: golden(1) };
    await backend.ensureTag(disk, 'old');
    await backend.ensureFlat(disk);
    await backend.ensureTag(disk, 'new');
    await backend.ensureClone({ disk, tag: 'new' }, fork);
    await expect(backend.ensureNoDisk(disk)).rejects.toMatchObject({ code: 'storage.in_use' });
    expect((await mine()).find(({ name }) => name === disk.name)?.tags).toEqual(['old', 'new']);
    await backend.ensureNoDisk(fork);
    await backend.ensureNoDisk(disk);
    expect(await datasets()).toEqual([]);
    await backend.ensureNoGolden(golden());
  });

  it('what is read stays, and readers of a killed process do not', async () => {
    await backend.ensureTag(disk, 'read');
    const readables: Readable[] = [{ disk }, { disk, tag: 'read' }, { golden: golden() }];
    const readers = await Promise.all(readables.map((readable) => backend.openReader(readable)));
    await expect(backend.ensureNoTag(disk, 'read')).rejects.toMatchObject({ code: 'storage.in_use' });
    await expect(backend.ensureFlat(disk)).rejects.toMatchObject({ code: 'storage.in_use' });
    // Somebody else's files are still open: that is no reason not to start.
    await reopen();
    await Promise.all(readers.map((reader) => reader.close()));
    expect(await datasets()).toEqual([path, `${path}@read`]);
    await pool.zfs('snapshot', `${path}@m2-read-left`);
    await pool.zfs('clone', `${path}@m2-read-left`, `${pool.dataset}/readers/left`);
    await reopen();
    expect(await datasets()).toEqual([path, `${path}@read`]);
    await backend.ensureNoDisk(disk);
    await backend.ensureNoGolden(golden());
  });

  it('a power cut leaves what was flushed and what was committed', async () => {
    const store = await backend.ensureAttached(disk);
    const io = await openFile(store);
    await io.write(0, Buffer.alloc(4096, 1));
    await backend.ensureTag(disk, 'before');
    await io.write(0, Buffer.alloc(4096, 2));
    const copying = backend.ensureGolden(golden(1), { disk, tag: 'before' }).then(
      () => 'golden',
      () => 'partial',
    );
    await pool.powerCut();
    await io.close().catch(() => undefined);
    const state = await copying;
    await reopen();
    await backend.health();
    expect(await mine()).toContainEqual({ ...disk, kind: 'disk', sizeBytes, tags: ['before'] });
    // What was acknowledged is there. What was not may be there in part.
    expect((await mine()).find(({ name }) => name === golden(1))?.kind).toBeOneOf([state, undefined]);
    await expect(backend.ensureNoDisk(disk)).rejects.toMatchObject({ code: 'storage.in_use' });
    expect(await backend.ensureAttached(disk)).toEqual(store);
    await backend.ensureDetached(disk);
    expect((await content({ disk })).subarray(0, 4096)).toEqual(Buffer.alloc(4096, 2));
    await backend.ensureGolden(golden(1), { disk, tag: 'before' });
    expect((await content({ golden: golden(1) })).subarray(0, 4096)).toEqual(Buffer.alloc(4096, 1));
  });

  it('says what is wrong with a dataset that cannot be used', async () => {
    await expect(ZfsBackend.open({ dataset: pool.dataset })).rejects.toMatchObject({ code: 'storage.in_use' });
    await pool.zfs('create', '-o', 'mountpoint=none', `${pool.dataset}/unmountable`);
    for (const dataset of [`${pool.dataset}/absent`, `${pool.dataset}/unmountable`, `${path}@x`, '-r', 'a b', '']) {
      await expect(ZfsBackend.open({ dataset })).rejects.toMatchObject({ code: 'storage.misconfigured' });
    }
  });
});
