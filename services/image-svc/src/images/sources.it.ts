import {
  diskDelete,
  diskTags,
  type ImageExport,
  imageDelete,
  imageExportCancel,
  imageExportShow,
  imageExportStart,
  imageImport,
  diskUntag,
  diskTag,
} from '@m2/contracts';
import { until } from '@m2/service-kit/testing';
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openImage, type TestImage } from '../testing/image.js';

let service: TestImage;
beforeAll(async () => {
  service = await openImage({ M2_FOREIGN_VOLUMES: 'vms,shared/exports' });
});
afterAll(() => service?.close());
beforeEach(() => {
  service.storage.calls.length = 0;
  service.storage.failing = undefined;
});

describe('an image of a disk', () => {
  it('is the disk as it was when it was asked for, and depends on it no more', async () => {
    const disk = await service.disk();
    const release = service.storage.hold('golden');
    const request = service.request({ project: disk.project, source: { kind: 'disk', disk: disk.id } });
    await service.tell(imageImport, request);
    expect(service.storage.volumes.get(disk.volume)?.tags).toHaveLength(1);
    await expect(
      service.tell(diskDelete, { diskId: disk.id, project: disk.project, purge: true }),
    ).rejects.toMatchObject({ code: 'tag.in_use' });
    release();
    expect(await service.imported(request)).toMatchObject({
      state: 'ready',
      format: 'raw',
      sizeBytes: disk.sizeBytes,
      sha256: null,
      parent: { kind: 'disk', id: disk.id },
    });
    await until('the tag is gone', () => service.storage.volumes.get(disk.volume)?.tags.length === 0);
    await service.tell(diskDelete, { diskId: disk.id, project: disk.project, purge: true });
  });

  it('that is not made, or not wanted any more, leaves no tag', async () => {
    const disk = await service.disk();
    const source = { kind: 'disk', disk: disk.id };
    service.storage.failing = { method: 'golden', code: 'storage.full' };
    const failing = service.request({ project: disk.project, source });
    await service.tell(imageImport, failing);
    expect(await service.imported(failing)).toMatchObject({ state: 'failed', error: { code: 'storage.full' } });
    service.storage.hold('golden');
    const stopped = service.request({ project: disk.project, source });
    await service.tell(imageImport, stopped);
    await service.tell(imageDelete, { imageId: stopped.imageId, project: disk.project });
    service.storage.gates.clear();
    await until('no tag is left', () => service.storage.volumes.get(disk.volume)?.tags.length === 0);
    expect((await service.ask(diskTags, { disk: disk.id, project: disk.project })).items).toEqual([]);
  });

  it('can be made of a tag, which stays, and of nothing that another project has', async () => {
    const disk = await service.disk();
    const { project } = disk;
    const tag = await service.tell(diskTag, { tagId: randomUUID(), diskId: disk.id, project, name: 'base' });
    const source = { kind: 'disk', disk: disk.id, tag: tag.id };
    const request = service.request({ project, source });
    await service.tell(imageImport, request);
    expect(await service.imported(request)).toMatchObject({ state: 'ready' });
    expect((await service.ask(diskTags, { disk: disk.id, project })).items).toHaveLength(1);
    await service.tell(diskUntag, { tagId: tag.id, diskId: disk.id, project });
    for (const stolen of [source, { kind: 'disk', disk: disk.id }])
      await expect(service.tell(imageImport, service.request({ source: stolen }))).rejects.toMatchObject({
        code: expect.stringMatching(/not_found$/) as string,
      });
  });
});

describe('a copy of an image', () => {
  it('depends on nothing, and keeps the image from being deleted only while it is made', async () => {
    const image = await service.image();
    const release = service.storage.hold('golden');
    const request = service.request({ source: { kind: 'image', image: image.id, project: image.project } });
    await service.tell(imageImport, request);
    await expect(service.tell(imageDelete, { imageId: image.id, project: image.project })).rejects.toMatchObject({
      code: 'image.in_use',
      detail: expect.stringContaining('1 of other projects') as string,
    });
    release();
    expect(await service.imported(request)).toMatchObject({ state: 'ready', sizeBytes: image.sizeBytes });
    await service.tell(imageDelete, { imageId: image.id, project: image.project });
  });
});

describe('a volume that M2 does not own', () => {
  it('becomes an image, where the operator allows its pool', async () => {
    service.storage.foreign.set('vms/web@clean', 8_192);
    expect(await service.image({ source: { kind: 'volume', volume: 'vms/web@clean' } })).toMatchObject({
      state: 'ready',
      sizeBytes: 8_192,
    });
    expect(await service.image({ source: { kind: 'volume', volume: 'vms/missing' } })).toMatchObject({
      state: 'failed',
      error: { code: 'image.source_unreachable' },
    });
    const others = ['vms', 'vms2/web', 'm2-images/x', 'vms/../m2-images/x', 'vms//x', 'shared/other/x', '/vms/x'];
    for (const volume of others) {
      const request = service.request({ source: { kind: 'volume', volume } });
      await expect(service.tell(imageImport, request)).rejects.toMatchObject({ code: 'volume.forbidden' });
    }
  });

  it('is made of an image, once, or stopped', async () => {
    const { id: image, project } = await service.image();
    const start = (volume: string) =>
      service.tell(imageExportStart, { exportId: randomUUID(), project, image, volume });
    const ended = ({ id: exportId }: ImageExport) =>
      until('the export has ended', async () => {
        const now = await service.ask(imageExportShow, { exportId, project });
        return now.state === 'running' ? undefined : now;
      });
    expect(await ended(await start('shared/exports/one'))).toMatchObject({ state: 'done', error: null });
    expect(service.storage.foreign.get('shared/exports/one')).toBe(4_096);
    expect(await ended(await start('shared/exports/one'))).toMatchObject({
      state: 'failed',
      error: { code: 'volume.exists' },
    });
    await expect(start('m2-disks/x')).rejects.toMatchObject({ code: 'volume.forbidden' });
    service.storage.hold('export');
    const stopped = await start('vms/two');
    await until('it is under way', () => service.storage.calls.includes('export vms/two'));
    await expect(service.tell(imageDelete, { imageId: image, project })).rejects.toMatchObject({
      code: 'image.in_use',
    });
    await service.tell(imageExportCancel, { exportId: stopped.id, project });
    service.storage.gates.clear();
    expect(service.storage.foreign.has('vms/two')).toBe(false);
    await expect(service.ask(imageExportShow, { exportId: stopped.id, project })).rejects.toMatchObject({
      code: 'image.export_not_found',
    });
    await service.tell(imageDelete, { imageId: image, project });
  });

  it('is not left behind by the replica that makes it, when another one was told to stop', async () => {
    const { id: image, project } = await service.image();
    const release = service.storage.hold('export');
    const exportId = randomUUID();
    await service.tell(imageExportStart, { exportId, project, image, volume: 'vms/three' });
    await until('it is under way', () => service.storage.calls.includes('export vms/three'));
    // As the other replica leaves it: it could remove nothing yet.
    await service.kit.database.query('DELETE FROM image_exports WHERE id = $1', [exportId]);
    release();
    await until('nobody works on it', async () => {
      const held = await service.kit.database.query('SELECT FROM m2_leases WHERE name = $1', [
        `image export ${exportId}`,
      ]);
      return held.length === 0;
    });
    expect(service.storage.foreign.has('vms/three')).toBe(false);
    expect(await service.events(image)).not.toContain('image.image.exported');
  });

  it('is stopped by the replica that makes it, when that sees that nobody wants it', async () => {
    const { id: image, project } = await service.image();
    const release = service.storage.hold('export');
    const exportId = randomUUID();
    await service.tell(imageExportStart, { exportId, project, image, volume: 'vms/four' });
    await until('it is under way', () => service.storage.calls.includes('export vms/four'));
    await service.kit.database.query('DELETE FROM image_exports WHERE id = $1', [exportId]);
    await until('it is stopped', async () => {
      service.storage.tellOfLongWork();
      const held = await service.kit.database.query('SELECT FROM m2_leases WHERE name = $1', [
        `image export ${exportId}`,
      ]);
      return held.length === 0;
    });
    release();
    expect(service.storage.foreign.has('vms/four')).toBe(false);
  });
});
