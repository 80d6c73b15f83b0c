import { diskCreate, diskList, imageDelete, imageImport, imageList, imageShow } from '@m2/contracts';
import { type OwnPostgres, startPostgres, until } from '@m2/service-kit/testing';
import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ofImage, openImage, type TestImage } from '../testing/image.js';

let postgres: OwnPostgres;
let service: TestImage;
beforeAll(async () => {
  postgres = await startPostgres();
  service = await openImage({}, postgres);
});
afterAll(() => service?.close());
beforeEach(() => {
  service.storage.calls.length = 0;
  service.storage.failing = undefined;
});

const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
const row = async (id: string) =>
  (await service.kit.database.query<{ volume: string }>('SELECT volume FROM images WHERE id = $1', [id]))[0];

describe('an import', () => {
  it('answers at once, and makes an image of the file, with its size, its format and its checksum', async () => {
    const release = service.storage.hold('golden');
    const request = service.request();
    const begun = await service.tell(imageImport, request);
    expect(begun).toMatchObject({ id: request.imageId, state: 'importing', sizeBytes: null, error: null });
    await until('it has come to the storage', () => service.storage.calls.length > 0);
    expect(service.staged()).toEqual([request.imageId]);
    release();
    const image = await service.imported(request);
    const path = (request.source as { path: string }).path;
    expect(image).toMatchObject({
      state: 'ready',
      format: 'raw',
      sizeBytes: 4096,
      sha256: sha256(path),
      progress: null,
      error: null,
    });
    expect(service.staged()).toEqual([]);
    const { volume } = (await row(image.id))!;
    expect(volume).toMatch(/^m[0-9a-f]{8}img\d+$/);
    expect(service.storage.volumes.get(volume)).toMatchObject({ kind: 'golden' });
    expect(await service.events(image.id)).toEqual(['image.image.imported']);
  });

  it('that fails says why, leaves no volume and no file, and frees its name when it is deleted', async () => {
    const path = service.file();
    const request = service.request({ source: { kind: 'file', path }, sha256: 'ab'.repeat(32) });
    await service.tell(imageImport, request);
    const image = await service.imported(request);
    expect(image).toMatchObject({ state: 'failed', error: { code: 'image.checksum_mismatch' }, progress: null });
    expect(service.staged()).toEqual([]);
    const { volume } = (await row(image.id))!;
    expect(service.storage.volumes.has(volume)).toBe(false);
    expect(await service.events(image.id)).toEqual(['image.image.import-failed']);
    const again = { ...request, imageId: randomUUID(), sha256: sha256(path) };
    await expect(service.tell(imageImport, again)).rejects.toMatchObject({ code: 'image.exists' });
    await service.tell(imageDelete, { imageId: image.id, project: image.project });
    await service.tell(imageImport, again);
    expect(await service.imported(again)).toMatchObject({ state: 'ready' });
  });

  it('of what is no disk, or not allowed, fails', async () => {
    for (const [source, code] of [
      [{ kind: 'file', path: '/etc/passwd' }, 'image.source_forbidden'],
      [{ kind: 'file', path: `${service.file()}.missing` }, 'image.source_unreachable'],
      [{ kind: 'url', url: 'http://169.254.169.254/latest' }, 'image.source_forbidden'],
    ] as const)
      expect(await service.image({ source })).toMatchObject({ state: 'failed', error: { code } });
    expect(await service.image({ format: 'qcow2' })).toMatchObject({
      state: 'failed',
      error: { code: 'image.format_mismatch' },
    });
  });

  it('asked for twice is one', async () => {
    const request = service.request();
    const effect = `${randomUUID()}/import-image/do`;
    const answers = await Promise.all([
      service.tell(imageImport, request, effect),
      service.tell(imageImport, request, effect),
    ]);
    expect(answers[0]).toEqual(answers[1]);
    await service.imported(request);
    expect(service.storage.calls.filter((call) => call.startsWith('golden'))).toHaveLength(1);
  });

  it('goes on after the service was restarted in the middle of it', async () => {
    const release = service.storage.hold('golden');
    const request = service.request();
    await service.tell(imageImport, request);
    await until('it is under way', () => service.storage.calls.length > 0);
    await service.restart(async () => release());
    const image = await service.imported(request);
    expect(image).toMatchObject({ state: 'ready', error: null });
    expect(service.storage.calls.filter((call) => call.startsWith('golden'))).toHaveLength(2);
    expect(await service.events(image.id)).toEqual(['image.image.imported']);
    expect(service.staged()).toEqual([]);
  });

  it('waits for its turn when others run, and has it', async () => {
    await service.restart(undefined, { M2_IMPORT_CONCURRENCY: '1' });
    const release = service.storage.hold('golden');
    const requests = [service.request(), service.request(), service.request()];
    for (const request of requests) await service.tell(imageImport, request);
    await until('the first is under way', () => service.storage.calls.length > 0);
    // One of those that wait is deleted before its turn.
    await service.tell(imageDelete, { imageId: requests[1]!.imageId, project: requests[1]!.project });
    expect(service.storage.calls.filter((call) => call.startsWith('golden'))).toHaveLength(1);
    release();
    for (const request of [requests[0]!, requests[2]!])
      expect(await service.imported(request)).toMatchObject({ state: 'ready' });
    expect(service.storage.calls.filter((call) => call.startsWith('golden'))).toHaveLength(2);
    await service.restart();
  });

  it('whose end could not be recorded, as the database was away, is no failure of the image', async () => {
    const release = service.storage.hold('golden');
    const request = service.request();
    await service.tell(imageImport, request);
    await until('it is under way', () => service.storage.calls.length > 0);
    await postgres.halt();
    release();
    await until('it was left', () => service.staged().length === 0);
    await postgres.start();
    await service.restart();
    expect(await service.imported(request)).toMatchObject({ state: 'ready', error: null });
  });
});

describe('deleting an image', () => {
  it('removes volume and row; one that is not there is fine', async () => {
    const { id: imageId, project } = await service.image();
    const { volume } = (await row(imageId))!;
    await service.tell(imageDelete, { imageId, project });
    expect(service.storage.volumes.has(volume)).toBe(false);
    await expect(service.ask(imageShow, { image: imageId, project })).rejects.toMatchObject({
      code: 'image.not_found',
    });
    await service.tell(imageDelete, { imageId, project });
    expect(await service.events(imageId)).toEqual(['image.image.imported', 'image.image.deleted']);
  });

  it('that somebody reads at this moment is refused, and it stays', async () => {
    const { id: image, project } = await service.image();
    service.storage.failing = { method: 'remove', code: 'storage.in_use' };
    await expect(service.tell(imageDelete, { imageId: image, project })).rejects.toMatchObject({
      code: 'storage.in_use',
    });
    expect(await service.ask(imageShow, { image, project })).toMatchObject({ state: 'ready' });
    await service.tell(imageDelete, { imageId: image, project });
  });

  it('that was interrupted and is read at the next attempt is not used again, as a part may be gone; it goes in the end', async () => {
    const { id: image, project } = await service.image();
    for (const code of ['storage.timeout', 'storage.in_use'] as const) {
      service.storage.failing = { method: 'remove', code };
      await expect(service.tell(imageDelete, { imageId: image, project })).rejects.toMatchObject({ code });
      expect(await service.ask(imageShow, { image, project })).toMatchObject({ state: 'deleting' });
    }
    await service.kit.database.query(`UPDATE images SET deleting_since = now() - interval '2 hours' WHERE id = $1`, [
      image,
    ]);
    await service.restart();
    await until('nobody has to ask again', async () => (await row(image)) === undefined);
    expect(await service.events(image)).toEqual(['image.image.imported', 'image.image.deleted']);
  });

  it('that disks were cloned from is refused, and names them', async () => {
    const { id: image, project } = await service.image();
    await service.tell(diskCreate, { diskId: randomUUID(), project, name: 'clone-of-it', from: ofImage(image) });
    const refused = service.tell(imageDelete, { imageId: image, project });
    await expect(refused).rejects.toMatchObject({
      code: 'image.in_use',
      detail: expect.stringContaining('clone-of-it') as string,
    });
    expect(await service.ask(imageShow, { image, project })).toMatchObject({ state: 'ready' });
  });

  it('while it is cloned is won by one of the two', async () => {
    for (let round = 0; round < 8; round += 1) {
      const { id: image, project } = await service.image();
      const cloning = { diskId: randomUUID(), project, name: 'racer', from: ofImage(image) };
      const [cloned, deleted] = await Promise.allSettled([
        service.tell(diskCreate, cloning),
        service.tell(imageDelete, { imageId: image, project }),
      ]);
      expect([cloned.status, deleted.status].toSorted()).toEqual(['fulfilled', 'rejected']);
      const disks = await service.ask(diskList, { project });
      expect(disks.items).toHaveLength(cloned.status === 'fulfilled' ? 1 : 0);
      const code = (cloned.status === 'rejected' ? cloned : (deleted as PromiseRejectedResult)).reason as {
        code: string;
      };
      expect(['image.not_found', 'image.not_ready', 'image.in_use']).toContain(code.code);
    }
  });

  it('while it is imported stops the import, and leaves nothing', async () => {
    service.storage.hold('golden');
    const request = service.request();
    await service.tell(imageImport, request);
    await until('it is under way', () => service.storage.calls.length > 0);
    const { volume } = (await row(request.imageId))!;
    await service.tell(imageDelete, { imageId: request.imageId, project: request.project });
    service.storage.gates.clear();
    expect([service.staged(), service.storage.volumes.has(volume), await row(request.imageId)]).toEqual([
      [],
      false,
      undefined,
    ]);
    expect(await service.events(request.imageId)).toEqual(['image.image.deleted']);
  });

  it('that the storage refuses can be tried again, and nobody clones it meanwhile', async () => {
    const { id: image, project } = await service.image();
    service.storage.failing = { method: 'remove', code: 'storage.timeout' };
    await expect(service.tell(imageDelete, { imageId: image, project })).rejects.toMatchObject({
      code: 'storage.timeout',
      retryable: true,
    });
    const cloning = { diskId: randomUUID(), project, name: 'late', from: ofImage(image) };
    await expect(service.tell(diskCreate, cloning)).rejects.toMatchObject({ code: 'image.not_ready' });
    await service.tell(imageDelete, { imageId: image, project });
    await expect(service.ask(imageShow, { image, project })).rejects.toMatchObject({ code: 'image.not_found' });
  });

  it('of another project does nothing', async () => {
    const { id: imageId, project } = await service.image();
    await service.tell(imageDelete, { imageId, project: randomUUID() });
    expect(await service.ask(imageShow, { image: imageId, project })).toMatchObject({ state: 'ready' });
  });
});

describe('images', () => {
  it('are found by name and by identifier, in their project', async () => {
    const image = await service.image({ name: 'ubuntu' });
    const { project } = image;
    for (const which of ['ubuntu', image.id])
      expect(await service.ask(imageShow, { image: which, project })).toEqual(image);
    for (const which of ['ubuntu', image.id])
      await expect(service.ask(imageShow, { image: which, project: randomUUID() })).rejects.toMatchObject({
        code: 'image.not_found',
      });
  });

  it('may have names that begin like identifiers', async () => {
    const name = 'abcdef12-abcdefabcdefabcdefabcdefabc';
    const image = await service.image({ name });
    expect(await service.ask(imageShow, { image: name, project: image.project })).toEqual(image);
  });

  it('come in pages, by name', async () => {
    const project = randomUUID();
    for (const name of ['c', 'a', 'b']) await service.image({ project, name });
    const first = await service.ask(imageList, { project, limit: 2 });
    expect([first.items.map(({ name }) => name), first.next]).toEqual([['a', 'b'], `b_${first.items[1]!.id}`]);
    const second = await service.ask(imageList, { project, limit: 2, cursor: first.next });
    expect([second.items.map(({ name }) => name), second.next]).toEqual([['c'], undefined]);
    expect((await service.ask(imageList, { project, name: 'b' })).items).toHaveLength(1);
  });
});
