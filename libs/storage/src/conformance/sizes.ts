import { expect, it } from 'vitest';
import { imageBytes, MiB } from './images.js';
import type { Suite } from './suite.js';

/** Disks that are made larger. */
export function sizes(suite: Suite): void {
  it('grows a disk, which keeps what it has and is zeros beyond', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    await suite.write(disk, imageBytes - 4096, Buffer.alloc(4096, 1));
    await backend.ensureTag(disk, 'small');
    const sizeBytes = 5 * 2 ** 30 + 512;
    await backend.ensureSize(disk, sizeBytes);
    await backend.ensureSize(disk, sizeBytes);
    expect((await suite.mine()).find(({ name }) => name === disk.name)).toMatchObject({ sizeBytes });
    await suite.used(disk, async (io) => {
      expect(io.sizeBytes).toBe(sizeBytes);
      expect(await io.read(imageBytes - 4096, 8192)).toEqual(
        Buffer.concat([Buffer.alloc(4096, 1), Buffer.alloc(4096)]),
      );
      await io.write(sizeBytes - 512, Buffer.alloc(512, 2));
      expect(await io.read(sizeBytes - 1024, 1024)).toEqual(Buffer.concat([Buffer.alloc(512), Buffer.alloc(512, 2)]));
    });
    // The tag has the size of its moment, and so has its clone.
    const reader = await backend.openReader({ disk, tag: 'small' });
    expect(reader.sizeBytes).toBe(imageBytes);
    await reader.close();
    expect(await backend.ensureClone({ disk, tag: 'small' }, suite.disk(2))).toMatchObject({ sizeBytes: imageBytes });
    await backend.ensureTag(disk, 'large');
    expect(await backend.ensureClone({ disk, tag: 'large' }, suite.disk(3))).toMatchObject({ sizeBytes });
    expect(await suite.read(suite.disk(3), sizeBytes - 512, 512)).toEqual(Buffer.alloc(512, 2));
  });

  it('makes no disk smaller, and none of a size that a disk cannot have', async () => {
    const disk = await suite.clone(1);
    for (const wrong of [imageBytes - 512, imageBytes + 1, 0, -512, Number.NaN, 2 ** 60]) {
      await expect(suite.backend.ensureSize(disk, wrong)).rejects.toMatchObject({ code: 'storage.bad_size' });
    }
    await suite.backend.ensureSize(disk, imageBytes);
    await expect(suite.backend.ensureSize(suite.disk(9), imageBytes)).rejects.toMatchObject({
      code: 'storage.not_found',
    });
    expect((await suite.content({ disk })).equals(suite.images.bytes)).toBe(true);
  });

  it('does not change the size of a disk that is open', async () => {
    const disk = await suite.clone(1);
    await suite.held(disk, () =>
      expect(suite.backend.ensureSize(disk, imageBytes + MiB)).rejects.toMatchObject({ code: 'storage.in_use' }),
    );
    await suite.backend.ensureDetached(disk);
    await suite.backend.ensureSize(disk, imageBytes + MiB);
  });
}
