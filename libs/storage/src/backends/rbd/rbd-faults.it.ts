import type { LabCeph } from '@m2/lab';
import { ownCeph } from '@m2/lab/testing';
import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DiskVolume, StorageBackend } from '../../storage.port.js';
import { TestCluster } from './rbd-backend.fixture.js';

const MiB = 2 ** 20;
const golden = 'h1img1';
const disk: DiskVolume = { project: randomUUID(), name: 'h1img2' };
const fork = { ...disk, name: 'h1img3' };
/** One for each call: calls for the same disk wait for each other. */
const disks = Array.from({ length: 5 }, (_, n) => ({ ...disk, name: `h2img${n}` }));

let cluster: TestCluster<LabCeph>;
let backend: StorageBackend;
let source: { path: string; format: 'raw' };

beforeAll(async () => {
  cluster = await TestCluster.open(ownCeph);
  backend = await cluster.backend();
  source = { path: cluster.path('image.raw'), format: 'raw' };
  await writeFile(source.path, Buffer.alloc(8 * MiB, 1));
  await backend.ensureGolden(golden, source);
  await Promise.all([disk, ...disks].map((each) => backend.ensureClone({ golden }, each)));
});
afterAll(() => cluster?.close());

const late = { code: expect.stringMatching(/^storage\.(timeout|unavailable)$/) as string };

/** None of them changes what the tests need. */
const calls = (): Promise<unknown>[] => {
  const [clone, tagged, untagged, resized, removed] = disks as [DiskVolume, ...DiskVolume[]] & typeof disks;
  return [
    backend.ensureGolden(golden, source),
    backend.ensureClone({ golden }, clone),
    backend.ensureTag(tagged!, 'a'),
    backend.ensureNoTag(untagged!, 'b'),
    backend.ensureSize(resized!, 8 * MiB),
    backend.ensureNoGolden('h1img9'),
    backend.ensureNoDisk({ ...removed!, name: 'h1img8' }),
    backend.ensureAttached(disk),
    backend.openReader({ golden }).then((reader) => reader.close()),
    backend.list(),
    backend.health(),
  ];
};

describe('a cluster that does not answer', () => {
  it('is told within the deadlines, and used again when it answers', async () => {
    const reader = await backend.openReader({ golden });
    await cluster.ceph.signalOsd('SIGSTOP');
    try {
      await expect(backend.health()).rejects.toMatchObject({ code: 'storage.timeout' });
      const cut = backend.ensureClone({ golden }, fork);
      const outcomes = await Promise.allSettled([...calls(), cut, reader.read(0, 512)]);
      for (const outcome of outcomes) expect(outcome).toMatchObject({ status: 'rejected', reason: late });
    } finally {
      await cluster.ceph.signalOsd('SIGCONT');
    }
    const answer = () => Promise.all(calls()).then(() => 'works', String);
    await expect.poll(answer, { timeout: 60_000, interval: 500 }).toBe('works');
    // Whatever librbd had done of it.
    await backend.ensureClone({ golden }, fork);
    const content = await backend.openReader({ disk: fork });
    expect((await content.read(0, 8 * MiB)).equals(Buffer.alloc(8 * MiB, 1))).toBe(true);
    await content.close();
    await reader.close();
    await backend.ensureNoDisk(fork);
  }, 300_000);

  it('does not keep a service from starting', async () => {
    await cluster.ceph.stopMon();
    const started = await cluster.backend();
    try {
      await expect(started.health()).rejects.toMatchObject(late);
      await expect(started.ensureAttached(disk)).rejects.toMatchObject(late);
    } finally {
      await cluster.ceph.startMon();
    }
    await expect.poll(() => started.health().then(() => 'works', String), { timeout: 30_000 }).toBe('works');
    expect(await started.ensureAttached(disk)).toMatchObject({ image: disk.name });
  });
});

describe('a configuration that does not fit', () => {
  it('is told apart from volumes that are not there', async () => {
    const { conf, user, imagePool, diskPool } = cluster.ceph;
    const wrong = { code: 'storage.misconfigured' };
    const elsewhere = await cluster.backend({ conf, user, imagePool: 'nowhere', diskPool });
    await expect(elsewhere.health()).rejects.toMatchObject(wrong);
    await expect(elsewhere.ensureNoGolden(golden)).rejects.toMatchObject(wrong);
    await expect(elsewhere.ensureClone({ golden }, fork)).rejects.toMatchObject(wrong);
    const nobody = await cluster.backend({ conf, user: 'nobody', imagePool, diskPool });
    await expect(nobody.health()).rejects.toMatchObject({
      code: expect.stringMatching(/misconfigured|unavailable/) as string,
    });
  });
});
