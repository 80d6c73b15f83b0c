import fs from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FileBackend } from './file-backend.js';
import { temporaryPlace } from './file-backend.fixture.js';
import type { TestPlace } from './file-backend.fixture.js';

const MiB = 2 ** 20;
const golden = 'aimg1';
const disk = { project: '', name: 'aimg2' };
const tagged = { disk, tag: 'old' };

let place: TestPlace;
let backend: FileBackend;
let reads: string[];
const { readdir } = fs.promises;

beforeEach(async () => {
  place = await temporaryPlace();
  fs.promises.readdir = ((path: string, ...rest: []) => {
    reads.push(path);
    return readdir(path, ...rest);
  }) as typeof readdir;
  syncBuiltinESMExports();
  reads = [];
  backend = await FileBackend.open({ directory: place.directory });
  await writeFile(join(place.directory, 'image.raw'), Buffer.alloc(MiB, 0x61));
});
afterEach(async () => {
  fs.promises.readdir = readdir;
  syncBuiltinESMExports();
  await backend.close();
  await place.teardown();
});

/** A directory of very many volumes takes milliseconds to read, so an operation on one of them must not. */
describe('the cost of an operation', () => {
  it('has no reading of a directory in it; only opening the storage and listing all volumes have', async () => {
    expect(reads.length).toBeGreaterThan(0);
    const read: Record<string, number> = {};
    const during = async (name: string, work: () => Promise<unknown>) => {
      reads = [];
      await work();
      read[name] = reads.length;
    };
    await during('import', () =>
      backend.ensureGolden(golden, { path: join(place.directory, 'image.raw'), format: 'raw' }),
    );
    await during('clone', () => backend.ensureClone({ golden }, disk));
    await during('attach', () => backend.ensureAttached(disk));
    await during('tag', () => backend.ensureTag(disk, 'old'));
    await during('read', async () => (await backend.openReader(tagged)).close());
    await during('detach', () => backend.ensureDetached(disk));
    await during('resize', () => backend.ensureSize(disk, 2 * MiB));
    await during('fork', () => backend.ensureClone(tagged, { project: '', name: 'aimg3' }));
    await during('refused removal', () => expect(backend.ensureNoDisk(disk)).rejects.toThrow('cloned'));
    await during('flatten', () => backend.ensureFlat({ project: '', name: 'aimg3' }));
    await during('untag', () => backend.ensureNoTag(disk, 'old'));
    await during('removal', () => backend.ensureNoDisk(disk));
    await during('removal of an image', () => backend.ensureNoGolden(golden));
    expect(Object.entries(read).filter(([, times]) => times > 0)).toEqual([]);
    await during('list', () => backend.list());
    expect(read).toMatchObject({ list: 1 });
  });

  it('is paid for with a list that a look at the directory corrects, but for what changed since the look began', async () => {
    const named = async () => (await backend.list()).map(({ name, kind }) => `${name} ${kind}`).sort();
    await writeFile(join(place.directory, 'volumes', 'aimg8.golden.raw'), Buffer.alloc(MiB));
    await writeFile(join(place.directory, 'volumes', 'aimg9.partial'), '');
    const listing = named();
    const made = backend.ensureClone({ golden: 'aimg8' }, disk).catch(() => undefined);
    await Promise.all([listing, made]);
    await backend.ensureClone({ golden: 'aimg8' }, disk);
    expect(await named()).toEqual(['aimg2 disk', 'aimg8 golden', 'aimg9 partial']);
    await fs.promises.rm(join(place.directory, 'volumes', 'aimg9.partial'));
    expect(await named()).toEqual(['aimg2 disk', 'aimg8 golden']);
  });
});
