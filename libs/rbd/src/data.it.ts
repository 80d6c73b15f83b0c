import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, stat, writeFile } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { sharedCeph } from '@m2/lab/testing';
import { describe, expect, it } from 'vitest';
import { MiB, useCluster } from './cluster.fixture.ts';
import type { RbdClient } from './rbd-client.ts';
import type { SourceRef } from './types.ts';

const cluster = useCluster(sharedCeph);

async function digest(stream: Readable): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of stream) hash.update(chunk as Buffer);
  return hash.digest('hex');
}
const digestOf = async (rbd: RbdClient, ref: SourceRef) => digest((await rbd.readStream(ref)).stream);

describe('an open image', () => {
  it('is written to and read, with many requests under way', async () => {
    const rbd = cluster.client();
    const ref = cluster.image();
    await rbd.create(ref, { sizeBytes: 64 * MiB });
    const handle = await rbd.openImage(ref);
    expect(handle).toMatchObject({ sizeBytes: 64 * MiB, objectBytes: MiB });
    const blocks = Array.from({ length: 300 }, () => randomBytes(4096));
    await Promise.all(blocks.map((block, i) => handle.write(i * 200_704, block)));
    await handle.flush();
    const read = await Promise.all(blocks.map((_, i) => handle.read(i * 200_704, 4096)));
    expect(read.every((block, i) => block.equals(blocks[i]!))).toBe(true);
    expect((await handle.read(63 * MiB, 2 * MiB)).length).toBe(MiB);
    await handle.writeZeroes(0, 4096);
    expect(await handle.read(0, 4096)).toEqual(Buffer.alloc(4096));
    await expect(handle.write(64 * MiB, Buffer.alloc(512))).rejects.toMatchObject({ code: 'invalid' });
    await handle.close();
    await handle.close();
    await expect(handle.read(0, 1)).rejects.toMatchObject({ code: 'invalid' });
  });

  it('is only read when it is a snapshot, or when that was asked for', async () => {
    const rbd = cluster.client();
    const ref = await cluster.filledImage(rbd, 1);
    await rbd.snapCreate({ ...ref, snap: 's' });
    for (const handle of [await rbd.openImage({ ...ref, snap: 's' }), await rbd.openImage(ref, { readOnly: true })]) {
      expect((await handle.read(0, 512)).length).toBe(512);
      await expect(handle.write(0, Buffer.alloc(512))).rejects.toMatchObject({ code: 'invalid' });
      await handle.close();
    }
  });

  it('is watched on request, and then read no more when the snapshot is gone', async () => {
    const rbd = cluster.client();
    const ref = await cluster.filledImage(rbd, 1);
    const snap = { ...ref, snap: 's' };
    await rbd.snapCreate(snap);
    const handle = await rbd.openImage(snap, { readOnly: false });
    expect((await handle.read(0, 512)).length).toBe(512);
    await expect(handle.write(0, Buffer.alloc(512))).rejects.toMatchObject({ code: 'invalid' });
    await rbd.snapRemove(snap);
    await expect(handle.read(0, 512)).rejects.toMatchObject({ code: 'not_found', call: expect.any(String) as string });
    await rbd.snapCreate(snap);
    await expect(handle.read(0, 512)).rejects.toMatchObject({ code: 'not_found' });
    await rbd.snapRemove(snap);
    await expect(rbd.remove(ref)).rejects.toMatchObject({ code: 'busy' });
    await handle.close();
    await rbd.remove(ref);
  });

  it('tells what is in it, and what is new since a snapshot', async () => {
    const rbd = cluster.client();
    const ref = await cluster.filledImage(rbd, 2, 16);
    await rbd.snapCreate({ ...ref, snap: 's' });
    const disk = cluster.disk();
    await rbd.clone({ ...ref, snap: 's' }, disk);
    await rbd.snapCreate({ ...disk, snap: 'tag' });
    const handle = await rbd.openImage(disk);
    await handle.write(10 * MiB + 8192, randomBytes(4096));
    // The object's part before the write did not exist either, and may count.
    const own = [
      {
        exists: true,
        offset: expect.toSatisfy((offset: number) => offset >= 10 * MiB) as number,
        length: expect.any(Number) as number,
      },
    ];
    const written = await handle.diff({ fromSnap: 'tag' });
    expect(written).toEqual(own);
    expect(written[0]!.offset + written[0]!.length).toBe(10 * MiB + 12_288);
    expect(await handle.diff({ includeParent: false })).toEqual(own);
    const whole = await handle.diff({ wholeObject: true });
    expect(whole.map(({ offset }) => offset)).toEqual([0, MiB, 10 * MiB]);
    const range = { offset: MiB, length: 9.5 * MiB };
    expect((await handle.diff({ wholeObject: true, range })).map(({ offset }) => offset)).toEqual([MiB, 10 * MiB]);
    await expect(handle.diff({ fromSnap: 'none' })).rejects.toMatchObject({ code: 'not_found' });
    await handle.close();
  });
});

describe('a file', () => {
  it('becomes an image without its holes and zeros, and a file again', async () => {
    const rbd = cluster.client();
    const file = await cluster.sparseFile();
    const ref = cluster.image();
    const seen: number[] = [];
    await rbd.importFile(file.path, ref, {}, { onProgress: (done) => seen.push(done) });
    expect(seen.at(-1)).toBe(file.sizeBytes);
    expect(await rbd.info(ref)).toMatchObject({ sizeBytes: file.sizeBytes, watchers: [], lockOwners: [] });
    // 3 MiB across 4 objects, and one object each for the other two.
    expect(await rbd.usedBytes(ref)).toBe(5 * MiB + 700);
    const out = cluster.path('out.raw');
    await rbd.exportFile(ref, out);
    expect((await readFile(out)).equals(await readFile(file.path))).toBe(true);
    expect((await stat(out)).blocks * 512).toBeLessThan(8 * MiB);
    await expect(rbd.exportFile(ref, out)).rejects.toMatchObject({ code: 'exists' });
  });

  it('is not needed to be sparse, and the image may be larger than it', async () => {
    const rbd = cluster.client();
    const path = cluster.path('full.raw');
    await writeFile(path, Buffer.concat([randomBytes(MiB), Buffer.alloc(30 * MiB), randomBytes(MiB)]));
    const ref = cluster.image();
    await rbd.importFile(path, ref, { sizeBytes: 48 * MiB, objectBytes: 4 * MiB });
    expect(await rbd.info(ref)).toMatchObject({ sizeBytes: 48 * MiB, objectBytes: 4 * MiB });
    const { stream } = await rbd.readStream(ref, { end: 32 * MiB });
    expect(await digest(stream)).toBe(await digest(createReadStream(path)));
    expect(await rbd.usedBytes(ref)).toBeLessThan(16 * MiB);
  });

  it('that is not there makes no image', async () => {
    const rbd = cluster.client();
    const ref = cluster.image();
    await expect(rbd.importFile(cluster.path('none'), ref)).rejects.toMatchObject({ code: 'not_found' });
    await expect(rbd.info(ref)).rejects.toMatchObject({ code: 'not_found' });
  });
});

describe('a copy', () => {
  it('of a clone is complete and has no parent', async () => {
    const rbd = cluster.client();
    const golden = await cluster.filledImage(rbd, 8, 32);
    await rbd.snapCreate({ ...golden, snap: 's' });
    const disk = cluster.disk();
    await rbd.clone({ ...golden, snap: 's' }, disk);
    const handle = await rbd.openImage(disk);
    await handle.write(20 * MiB, randomBytes(8192));
    await rbd.snapCreate({ ...disk, snap: 'tag' });
    const before = await digestOf(rbd, { ...disk, snap: 'tag' });
    await handle.write(0, randomBytes(4096));
    await handle.close();
    const copied = cluster.image('copy');
    await rbd.copy({ ...disk, snap: 'tag' }, copied, { objectBytes: 4 * MiB });
    expect(await digestOf(rbd, copied)).toBe(before);
    expect(await rbd.info(copied)).toMatchObject({ sizeBytes: 32 * MiB, objectBytes: 4 * MiB, snaps: [] });
    expect(await rbd.info(copied)).not.toHaveProperty('parent');
    expect(await digestOf(rbd, disk)).not.toBe(before);
    await expect(rbd.copy(disk, copied)).rejects.toMatchObject({ code: 'exists' });
  });
});

describe('a stream', () => {
  it('has the bytes of a range, which may begin and end anywhere', async () => {
    const rbd = cluster.client();
    const ref = await cluster.filledImage(rbd, 9, 12);
    const handle = await rbd.openImage(ref, { readOnly: true });
    const all = Buffer.concat(await Promise.all([0, 4, 8].map((at) => handle.read(at * MiB, 4 * MiB))));
    await handle.close();
    for (const [start, end] of [
      [0, 12 * MiB],
      [MiB - 1, 9 * MiB + 77],
      [5, 6],
      [12 * MiB, 12 * MiB],
    ] as const) {
      const { sizeBytes, stream } = await rbd.readStream(ref, { start, end });
      expect(sizeBytes).toBe(12 * MiB);
      expect((await buffer(stream)).equals(all.subarray(start, end))).toBe(true);
    }
    await expect(rbd.readStream(ref, { end: 13 * MiB })).rejects.toMatchObject({ code: 'invalid' });
  });

  it('may be left by its reader, and the image is free again', async () => {
    const rbd = cluster.client();
    const ref = await cluster.filledImage(rbd, 64);
    const { stream } = await rbd.readStream(ref);
    for await (const chunk of stream) {
      expect(chunk).toBeInstanceOf(Buffer);
      break;
    }
    expect(stream.destroyed).toBe(true);
    await rbd.remove(ref);
  });

  it('fails, and does not merely end, when the child dies', async () => {
    const rbd = cluster.client();
    const ref = await cluster.filledImage(rbd, 64);
    const { stream } = await rbd.readStream(ref);
    const reading = (async () => {
      for await (const chunk of stream) if (rbd.pid !== undefined && chunk) process.kill(rbd.pid, 'SIGKILL');
    })();
    await expect(reading).rejects.toMatchObject({ code: 'unavailable' });
  });
});

describe('what takes long', () => {
  const reason = new Error('no longer wanted');
  /** Aborts as soon as the call reports that it has begun. */
  const abortEarly = () => {
    const controller = new AbortController();
    return { signal: controller.signal, onProgress: () => controller.abort(reason) };
  };

  it('is stopped: an import', async () => {
    const rbd = cluster.client();
    const path = cluster.path('long.raw');
    await writeFile(path, randomBytes(256 * MiB));
    const ref = cluster.image();
    await expect(rbd.importFile(path, ref, {}, abortEarly())).rejects.toBe(reason);
    expect(await rbd.usedBytes(ref)).toBeLessThan(256 * MiB);
    // Nobody has it open any more.
    await rbd.remove(ref);
  });

  it('is stopped: a copy and a flatten', async () => {
    const rbd = cluster.client();
    const golden = await cluster.filledImage(rbd, 256);
    const copied = cluster.image();
    await expect(rbd.copy(golden, copied, {}, abortEarly())).rejects.toBe(reason);
    expect(await rbd.usedBytes(copied)).toBeLessThan(256 * MiB);
    await rbd.remove(copied);
    await rbd.snapCreate({ ...golden, snap: 's' });
    const disk = cluster.disk();
    await rbd.clone({ ...golden, snap: 's' }, disk);
    await expect(rbd.flatten(disk, abortEarly())).rejects.toBe(reason);
    expect(await rbd.info(disk)).toHaveProperty('parent');
    await rbd.flatten(disk);
    expect(await digestOf(rbd, disk)).toBe(await digestOf(rbd, golden));
  });

  it('is not begun when it was aborted before', async () => {
    const rbd = cluster.client();
    const ref = cluster.image();
    const signal = AbortSignal.abort(reason);
    await expect(rbd.create(ref, { sizeBytes: MiB }, { signal })).rejects.toBe(reason);
    await expect(rbd.info(ref)).rejects.toMatchObject({ code: 'not_found' });
  });
});
