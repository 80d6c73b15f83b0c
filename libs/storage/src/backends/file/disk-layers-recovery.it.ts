import { copyFile, link, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Qmp, writableOverlay } from '@m2/storage-daemon';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openFile } from '../../conformance/harness.js';
import type { OpenDisk } from '../../conformance/harness.js';
import { FileBackend } from './file-backend.js';
import { killDaemon, temporaryPlace } from './file-backend.fixture.js';
import type { TestPlace } from './file-backend.fixture.js';
import { overlayNode } from './overlay-disk.js';
import { writeOverlay } from './qcow2-overlay.js';

const MiB = 2 ** 20;
const disk = { project: '', name: 'aimg2' };

let place: TestPlace;
let backend: FileBackend;
let io: OpenDisk;
const at = (name: string) => join(place.directory, 'volumes', name);
const files = async () => (await readdir(join(place.directory, 'volumes'))).sort();
const open = async () => (backend = await FileBackend.open({ directory: place.directory }));
const put = (block: number, value: number) => io.write(block * 4096, Buffer.alloc(4096, value));
/** The first bytes of the first blocks, read through a newly opened file. */
const blocks = async () => {
  const anew = await openFile(await backend.ensureAttached(disk));
  const bytes = await anew.read(0, 4 * 4096);
  await anew.close();
  return [0, 1, 2, 3].map((n) => bytes[n * 4096]);
};
const blocksOf = async (tag: string) => {
  const reader = await backend.openReader({ disk, tag });
  const bytes = await reader.read(0, 4 * 4096);
  await reader.close();
  return [0, 1, 2, 3].map((n) => bytes[n * 4096]);
};
/** What a tag does to the files before the daemon follows. */
const interruptTag = async () => {
  await backend.close();
  await writeOverlay(at('aimg2.aimg1.1.qcow2'), MiB);
};

beforeEach(async () => {
  place = await temporaryPlace();
  await open();
  await writeFile(join(place.directory, 'image.raw'), Buffer.alloc(MiB, 0x61));
  await backend.ensureGolden('aimg1', { path: join(place.directory, 'image.raw'), format: 'raw' });
  await backend.ensureClone({ golden: 'aimg1' }, disk);
  io = await openFile(await backend.ensureAttached(disk));
  await put(0, 1);
});
afterEach(async () => {
  await io.close();
  await backend.close();
  await place.teardown();
});

describe('a tag that was interrupted', () => {
  it('before the daemon followed: it follows when it is adopted, and nothing is lost', async () => {
    await interruptTag();
    await put(1, 2); // to the older file
    await open();
    await put(2, 3);
    expect(await blocks()).toEqual([1, 2, 3, 0x61]);
    expect((await backend.list()).find(({ name }) => name === disk.name)?.tags).toEqual([]);
    await backend.ensureTag(disk, 'now');
    await put(2, 4);
    expect(await blocks()).toEqual([1, 2, 4, 0x61]);
    expect(await blocksOf('now')).toEqual([1, 2, 3, 0x61]);
    expect(await files()).toEqual([
      'aimg1.golden.raw',
      'aimg2.aimg1.1.qcow2',
      'aimg2.aimg1.2.qcow2',
      'aimg2.aimg1.qcow2',
      'aimg2.now.1.tag',
    ]);
  });

  it('when the daemon had opened the new file, and not put it on the disk', async () => {
    await interruptTag();
    const qmp = await Qmp.connect(join(place.directory, 'daemon.sock'), 10_000);
    await qmp.execute('blockdev-add', writableOverlay(overlayNode(disk.name, 1), at('aimg2.aimg1.1.qcow2')));
    qmp.close();
    await put(1, 2);
    await open();
    await put(2, 3);
    expect(await blocks()).toEqual([1, 2, 3, 0x61]);
    await backend.ensureTag(disk, 'now');
    await io.close();
    await backend.ensureDetached(disk);
    io = await openFile(await backend.ensureAttached(disk));
    expect(await blocks()).toEqual([1, 2, 3, 0x61]);
  });

  it('together with the daemon: the disk has what was flushed', async () => {
    await interruptTag();
    await put(1, 2);
    await io.close();
    await killDaemon(place.directory);
    await open();
    io = await openFile(await backend.ensureAttached(disk));
    await put(2, 3);
    expect(await blocks()).toEqual([1, 2, 3, 0x61]);
    await backend.ensureTag(disk, 'now');
    expect(await blocksOf('now')).toEqual([1, 2, 3, 0x61]);
  });

  it('after the daemon followed, before there was a name: it is made anew', async () => {
    await backend.ensureTag(disk, 'lost');
    await backend.close();
    await rm(at('aimg2.lost.0.tag'));
    await put(1, 2);
    await open();
    await backend.ensureTag(disk, 'lost');
    await put(1, 3);
    expect(await blocksOf('lost')).toEqual([1, 2, 0x61, 0x61]);
    expect(await blocks()).toEqual([1, 3, 0x61, 0x61]);
  });

  it('in the middle of its file: what there is of it is taken away', async () => {
    await backend.close();
    await writeFile(at('aimg2.partial'), 'half an overlay');
    await open();
    expect(await files()).toEqual(['aimg1.golden.raw', 'aimg2.aimg1.qcow2']);
    await backend.ensureTag(disk, 'now');
    expect(await blocksOf('now')).toEqual([1, 0x61, 0x61, 0x61]);
  });
});

describe('a flattening that was interrupted', () => {
  it('in the middle of the copy: the disk is a clone still', async () => {
    await backend.ensureTag(disk, 'kept');
    await backend.close();
    await writeFile(at('aimg2.0.partial'), 'half a layer');
    await open();
    expect(await files()).not.toContain('aimg2.0.partial');
    expect(await blocks()).toEqual([1, 0x61, 0x61, 0x61]);
    await expect(backend.ensureNoGolden('aimg1')).rejects.toMatchObject({ code: 'storage.in_use' });
    await backend.ensureFlat(disk);
    await backend.ensureNoGolden('aimg1');
    expect(await blocks()).toEqual([1, 0x61, 0x61, 0x61]);
    expect(await blocksOf('kept')).toEqual([1, 0x61, 0x61, 0x61]);
  });

  it('after the copy, before the overlay went: the disk is flat', async () => {
    await link(at('aimg2.aimg1.qcow2'), at('overlay'));
    await backend.ensureFlat(disk); // while it is in use
    await put(1, 2);
    await backend.close();
    await rename(at('overlay'), at('aimg2.aimg1.qcow2'));
    await io.close();
    await killDaemon(place.directory);
    await open();
    expect(await files()).toEqual(['aimg1.golden.raw', 'aimg2.0.layer.raw', 'aimg2.aimg1.1.qcow2']);
    io = await openFile(await backend.ensureAttached(disk));
    await backend.ensureNoGolden('aimg1');
    expect(await blocks()).toEqual([1, 2, 0x61, 0x61]);
  });
});

describe('the removal of a disk that was interrupted', () => {
  it('leaves no disk, whatever is left of it', async () => {
    await backend.ensureTag(disk, 'a');
    await backend.ensureTag(disk, 'b');
    await io.close();
    await backend.ensureDetached(disk);
    await backend.close();
    await rename(at('aimg2.aimg1.2.qcow2'), at('aimg2.gone'));
    await copyFile(at('aimg2.gone'), at('aimg3.gone')); // the rest of a removed disk
    await open();
    expect(await files()).toEqual(['aimg1.golden.raw']);
    await backend.ensureNoGolden('aimg1');
    expect(await backend.list()).toEqual([]);
  });

  it('is done by the next call, if not by the next start', async () => {
    await backend.ensureTag(disk, 'a');
    await io.close();
    await backend.ensureDetached(disk);
    await rename(at('aimg2.aimg1.1.qcow2'), at('aimg2.gone'));
    expect(await backend.list()).toContainEqual(expect.objectContaining({ name: 'aimg2', kind: 'partial' }));
    await expect(backend.ensureAttached(disk)).rejects.toMatchObject({ code: 'storage.not_found' });
    await backend.ensureNoDisk(disk);
    expect(await files()).toEqual(['aimg1.golden.raw']);
  });
});
