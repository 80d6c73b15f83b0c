import { randomBytes } from 'node:crypto';
import { ownCeph } from '@m2/lab/testing';
import { describe, expect, it } from 'vitest';
import { MiB, useCluster } from './cluster.fixture.ts';
import type { RbdClient } from './rbd-client.ts';

const cluster = useCluster(ownCeph);

/** Runs `work` while the OSD does not answer. */
async function withStoppedOsd<T>(work: () => Promise<T>): Promise<T> {
  await cluster.ceph.signalOsd('SIGSTOP');
  try {
    return await work();
  } finally {
    await cluster.ceph.signalOsd('SIGCONT');
  }
}

/** Starts an import and waits for its progress. It goes on for long. */
async function begunCopy(rbd: RbdClient) {
  const from = await cluster.filledImage(rbd, 256);
  const to = cluster.image();
  const { promise: begun, resolve } = Promise.withResolvers<void>();
  const result = rbd.copy(from, to, {}, { onProgress: () => resolve() });
  result.catch(() => {});
  await begun;
  return { to, result };
}

const answerOf = (call: Promise<unknown>) =>
  call.then(
    () => 'works',
    (error: { code: string }) => error.code,
  );

describe('a cluster that does not answer', () => {
  it('is a timeout at the deadline of the call, and the end of a child that hangs', async () => {
    const rbd = cluster.client({ graceMs: 300 });
    const ref = cluster.image();
    await rbd.create(ref, { sizeBytes: MiB });
    const { pid } = rbd;
    await withStoppedOsd(async () => {
      const patient = rbd.info(ref, { deadlineMs: 60_000 });
      patient.catch(() => {});
      await expect(rbd.info(ref, { deadlineMs: 500 })).rejects.toMatchObject({ code: 'timeout', call: 'info' });
      await expect(patient).rejects.toMatchObject({ code: 'unavailable' });
    });
    expect(await rbd.info(ref)).toMatchObject({ sizeBytes: MiB });
    expect(rbd.pid).not.toBe(pid);
  });

  it('lets a change that is late end before anybody looks at the image again', async () => {
    // The child has no reason to be killed: librbd waits for ever, and the child may be silent for long.
    const rbd = cluster.client({ osdTimeoutMs: 0, graceMs: 60_000 });
    const ref = cluster.image();
    await rbd.create(ref, { sizeBytes: MiB });
    const { pid } = rbd;
    await withStoppedOsd(async () => {
      const late = rbd.snapCreate({ ...ref, snap: 'late' }, { deadlineMs: 500 });
      await expect(late).rejects.toMatchObject({ code: 'timeout' });
      await expect(rbd.info(ref, { deadlineMs: 200 })).rejects.toMatchObject({ code: 'timeout', call: 'info' });
      const controller = new AbortController();
      const aborted = rbd.info(ref, { signal: controller.signal });
      controller.abort(new Error('nobody wants it any more'));
      await expect(aborted).rejects.toThrow('nobody wants it any more');
    });
    expect(await rbd.info(ref)).toMatchObject({ snaps: [{ name: 'late' }] });
    expect(rbd.pid).toBe(pid);
    await rbd.snapRemove({ ...ref, snap: 'late' });
  });

  it('is told by librbd when the OSD may take less time than the call', async () => {
    const rbd = cluster.client({ osdTimeoutMs: 1000 });
    const ref = cluster.image();
    await rbd.create(ref, { sizeBytes: MiB });
    const { pid } = rbd;
    await withStoppedOsd(async () => {
      const calls = [rbd.info(ref), rbd.remove(ref)];
      const [info, remove] = await Promise.allSettled(calls);
      expect(info).toMatchObject({ reason: { code: 'timeout', call: 'rbd_open_read_only', errno: 110 } });
      expect(remove).toMatchObject({ reason: { code: 'timeout', call: 'rbd_remove' } });
    });
    expect(await rbd.info(ref)).toMatchObject({ sizeBytes: MiB });
    expect(rbd.pid).toBe(pid);
  });

  it('ends a copy, whose progress stands still', async () => {
    const rbd = cluster.client({ graceMs: 300 });
    const from = await cluster.filledImage(rbd, 256);
    const to = cluster.image();
    const { promise: begun, resolve } = Promise.withResolvers<void>();
    const copied = rbd.copy(from, to, {}, { deadlineMs: 1000, onProgress: () => resolve() });
    copied.catch(() => {});
    await begun;
    await withStoppedOsd(() => expect(copied).rejects.toMatchObject({ code: 'timeout', call: 'copy' }));
    // The first ones may still go to the child that hangs.
    await expect.poll(() => answerOf(rbd.info(to)), { timeout: 30_000 }).toBe('works');
    await rbd.remove(to);
  });

  it('is a monitor that is away, too', async () => {
    const connected = cluster.client({ monTimeoutMs: 1000 });
    const ref = cluster.image();
    await connected.create(ref, { sizeBytes: MiB });
    await cluster.ceph.stopMon();
    try {
      const late = cluster.client({ connectDeadlineMs: 1000 });
      await expect(late.list(ref.pool)).rejects.toMatchObject({
        code: expect.stringMatching(/^(timeout|unavailable)$/) as string,
        call: 'rados_connect',
      });
      await expect(connected.poolStats(ref.pool)).rejects.toMatchObject({ code: 'timeout' });
      // The OSD needs no monitor to answer.
      expect(await connected.info(ref)).toMatchObject({ sizeBytes: MiB });
    } finally {
      await cluster.ceph.startMon();
    }
    await expect.poll(() => connected.poolStats(ref.pool), { timeout: 30_000 }).toBeTruthy();
  });

  it('is full, which is said and not waited for', async () => {
    const rbd = cluster.client();
    const gone = cluster.image();
    await rbd.create(gone, { sizeBytes: MiB });
    await rbd.remove(gone);
    const ref = await cluster.filledImage(rbd, 1, 4);
    // Nothing was ever removed in this namespace.
    await rbd.namespaceCreate(cluster.ceph.diskPool, 'fresh');
    const fresh = cluster.disk('fresh');
    await rbd.create(fresh, { sizeBytes: MiB });
    const handle = await rbd.openImage(ref);
    await handle.write(0, Buffer.alloc(512, 1));
    await cluster.ceph.setFull();
    try {
      await expect(handle.write(2 * MiB, randomBytes(MiB))).rejects.toMatchObject({ code: 'full' });
      await expect(rbd.create(cluster.image(), { sizeBytes: MiB })).rejects.toMatchObject({ code: 'full' });
      expect((await handle.read(0, 512))[0]).toBe(1);
      await handle.close();
      await rbd.remove(ref);
      await expect(rbd.remove(fresh)).rejects.toMatchObject({ code: 'full', call: 'rbd_remove' });
    } finally {
      await cluster.ceph.unsetFull();
    }
    await rbd.remove(fresh);
    await rbd.create(cluster.image(), { sizeBytes: MiB });
  });
});

describe('a child', () => {
  it('that is killed takes its calls with it, and is replaced by the next call', async () => {
    const rbd = cluster.client();
    const { to, result } = await begunCopy(rbd);
    const pid = rbd.pid!;
    process.kill(pid, 'SIGKILL');
    await expect(result).rejects.toMatchObject({ code: 'unavailable', message: expect.stringContaining('SIGKILL') });
    expect(rbd.pid).toBeUndefined();
    // At once: the next child has fenced it, so nobody waits for the end of its watch on the image.
    await rbd.remove(to);
    expect(rbd.pid).not.toBe(pid);
  });

  it('that aborts, as librbd does at a failed assertion, is replaced', async () => {
    const rbd = cluster.client();
    const { result } = await begunCopy(rbd);
    process.kill(rbd.pid!, 'SIGABRT');
    await expect(result).rejects.toMatchObject({ code: 'unavailable', message: expect.stringContaining('SIGABRT') });
    expect(await rbd.versions()).toMatchObject({ librbd: expect.stringMatching(/^\d+\.\d+\.\d+$/) });
  });

  it('that hangs is killed and replaced', async () => {
    const rbd = cluster.client({ graceMs: 300 });
    await rbd.versions();
    const pid = rbd.pid!;
    process.kill(pid, 'SIGSTOP');
    const others = [rbd.versions(), rbd.versions({ deadlineMs: 60_000 })];
    await expect(rbd.versions({ deadlineMs: 200 })).rejects.toMatchObject({ code: 'timeout' });
    for (const other of others) await expect(other).rejects.toMatchObject({ code: 'unavailable' });
    await rbd.versions();
    expect(rbd.pid).not.toBe(pid);
  });

  it('takes the images that it had open with it', async () => {
    const rbd = cluster.client();
    const handle = await rbd.openImage(await cluster.filledImage(rbd, 1));
    process.kill(rbd.pid!, 'SIGKILL');
    await expect(handle.read(0, 512)).rejects.toMatchObject({ code: 'unavailable' });
    await rbd.versions();
    await expect(handle.read(0, 512)).rejects.toMatchObject({ code: 'unavailable' });
  });

  it('is started by the first call, and not after the client was closed', async () => {
    const rbd = cluster.client();
    expect(rbd.pid).toBeUndefined();
    await rbd.versions();
    expect(rbd.pid).toBeGreaterThan(0);
    await rbd.close();
    await expect(rbd.versions()).rejects.toMatchObject({ code: 'unavailable' });
  });
});

describe('the next life of a process', () => {
  /** In a service it is a table. */
  const addressBook = () => {
    const addresses = new Set<string>();
    return {
      addresses,
      dead: async () => [...addresses],
      add: async (address: string) => void addresses.add(address),
      remove: async (gone: string[]) => gone.forEach((address) => addresses.delete(address)),
      close: async () => {},
    };
  };

  it('shuts out the client of the last one, and its images are free at once', async () => {
    const book = addressBook();
    const last = cluster.client({ addressBook: book });
    const ref = await cluster.filledImage(last, 1);
    const held = await last.openImage(ref);
    const [dead] = book.addresses;
    // Stopped, it is like a client on a host that died: its connections stay, and so does what it asked for.
    process.kill(last.pid!, 'SIGSTOP');
    const next = cluster.client({ addressBook: book });
    await next.remove(ref);
    expect([...book.addresses]).toEqual([expect.not.stringContaining(dead!)]);
    process.kill(last.pid!, 'SIGCONT');
    await expect(held.write(0, randomBytes(512))).rejects.toMatchObject({ code: 'unavailable' });
  });

  it('shuts out a client that lives, when it is said to be dead; that one connects anew', async () => {
    const living = cluster.client();
    const ref = await cluster.filledImage(living, 1);
    const held = await living.openImage(ref);
    await held.write(0, randomBytes(512));
    const { pid } = living;
    const [owner, ...others] = await cluster.client().lockOwners(ref);
    expect(others).toEqual([]);
    expect(owner).toMatchObject({
      client: expect.stringMatching(/^client\.\d+$/),
      address: expect.stringMatching(/\/\d+$/),
    });
    const next = cluster.client({ addressBook: { ...addressBook(), dead: async () => [owner!.address] } });
    const taken = await next.openImage(ref);
    await taken.write(0, randomBytes(512));
    await taken.close();
    await expect(held.write(0, randomBytes(512))).rejects.toMatchObject({ code: 'unavailable' });
    expect(await living.info(ref)).toMatchObject({ lockOwners: [], watchers: [] });
    expect(living.pid).not.toBe(pid);
  });

  it('has nobody to shut out when that one ended in good order', async () => {
    const book = addressBook();
    const last = cluster.client({ addressBook: book });
    await last.poolId(cluster.ceph.imagePool);
    expect(book.addresses.size).toBe(1);
    await last.close();
    expect(book.addresses.size).toBe(0);
  });

  it('is not begun while its address cannot be recorded', async () => {
    const book = { ...addressBook(), add: () => Promise.reject(new Error('the database is away')) };
    const rbd = cluster.client({ addressBook: book });
    await expect(rbd.create(cluster.image(), { sizeBytes: MiB })).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('the database is away') as string,
    });
  });
});
