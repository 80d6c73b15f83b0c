import { chmod, mkdtemp, open, readdir, readFile, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isAlive, mountsIn, Qmp, StorageDaemon, unmountLazily } from '@m2/storage-daemon';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FileBackend } from './file-backend.js';
import { canMount, loopPlace, temporaryPlace } from './file-backend.fixture.js';
import type { TestPlace } from './file-backend.fixture.js';

const MiB = 2 ** 20;

let place: TestPlace;
let backend: FileBackend;
const at = (...names: string[]) => join(place.directory, ...names);
const daemon = async () => (await new StorageDaemon(place.directory).recorded())!;
const mounts = () => mountsIn(at('attached'));
const restart = async () => {
  await backend.close();
  backend = await FileBackend.open({ directory: place.directory });
};

beforeEach(async () => {
  place = await (canMount ? loopPlace('ext4') : temporaryPlace());
  backend = await FileBackend.open({ directory: place.directory });
  await writeFile(at('image.raw'), Buffer.alloc(MiB, 0x61));
  await backend.ensureGolden('aimg1', { path: at('image.raw'), format: 'raw' });
  for (const name of ['aimg2', 'aimg3']) {
    await backend.ensureClone({ golden: 'aimg1' }, disk(name));
    await backend.ensureAttached(disk(name));
  }
});
afterEach(async () => {
  await backend.close();
  await place.teardown();
});

const disk = (name: string) => ({ project: '', name });
const firstByte = async (volume: string) => (await readFile(at('attached', volume)))[0];

describe('the file backend with overlays', () => {
  it('adopts the running daemon, and has it attach and detach what was interrupted', async () => {
    const before = await daemon();
    await backend.close();
    const qmp = await Qmp.connect(at('daemon.sock'), 10_000);
    const [id] = ((await qmp.execute('query-block-exports')) as { id: string; 'node-name': string }[])
      .filter((it) => it.id.endsWith('aimg2'))
      .map((it) => it['node-name']);
    // It died half-way through the detach of one disk, and before the attach of another and the detach of a third.
    const gone = qmp.event('BLOCK_EXPORT_DELETED', 'disk-aimg2');
    await qmp.execute('block-export-del', { id: 'disk-aimg2', mode: 'hard' });
    await gone;
    expect(JSON.stringify(await qmp.execute('query-named-block-nodes', { flat: true }))).toContain(id);
    qmp.close();
    await unlink(at('attached', 'aimg2'));
    await writeFile(at('attached', 'gone'), '');
    backend = await FileBackend.open({ directory: place.directory });
    expect(await daemon()).toEqual(before);
    expect(await mounts()).toEqual([at('attached', 'aimg3')]);
    await backend.ensureAttached(disk('aimg2'));
    expect(await firstByte('aimg2')).toBe(0x61);
  });

  it('attaches again what somebody unmounted', async () => {
    await unmountLazily([at('attached', 'aimg2')]);
    expect((await stat(at('attached', 'aimg2'))).size).toBe(0);
    await backend.ensureAttached(disk('aimg2'));
    expect(await firstByte('aimg2')).toBe(0x61);
    await unmountLazily([at('attached', 'aimg3')]);
    await restart();
    expect(await firstByte('aimg3')).toBe(0x61);
  });

  it('replaces a daemon that hangs', async () => {
    const hung = await daemon();
    await backend.close();
    process.kill(hung.pid, 'SIGSTOP');
    backend = await FileBackend.open({ directory: place.directory });
    expect(isAlive(hung)).toBe(false);
    expect(isAlive(await daemon())).toBe(true);
    expect([await firstByte('aimg2'), await firstByte('aimg3')]).toEqual([0x61, 0x61]);
  });

  it('puts the others back when one disk is damaged, and is in health without it', async () => {
    await backend.close();
    process.kill((await daemon()).pid, 'SIGKILL');
    const file = await open(at('volumes', 'aimg2.aimg1.qcow2'), 'r+');
    await file.write('damaged', 0);
    await file.close();
    backend = await FileBackend.open({ directory: place.directory });
    const lost: string[] = [];
    backend.onAttachmentsLost((volumes) => lost.push(...volumes));
    expect(lost).toEqual(['aimg3']);
    expect(await firstByte('aimg3')).toBe(0x61);
    await backend.health();
    await expect(backend.ensureAttached(disk('aimg2'))).rejects.toMatchObject({ code: 'storage.unavailable' });
    await backend.ensureDetached(disk('aimg2'));
  });

  it('keeps what was flushed through many deaths', async () => {
    for (let round = 1; round <= 5; round++) {
      const lost = new Promise<string[]>((resolve) => backend.onAttachmentsLost(resolve));
      const file = await open(at('attached', 'aimg2'), 'r+');
      await file.write(Buffer.alloc(4096, round), 0, 4096, round * 8192);
      await file.sync();
      await file.close();
      process.kill((await daemon()).pid, 'SIGKILL');
      expect((await lost).toSorted()).toEqual(['aimg2', 'aimg3']);
      const bytes = await readFile(at('attached', 'aimg2'));
      for (let n = 1; n <= round; n++) expect(bytes[n * 8192]).toBe(n);
    }
  });

  it('belongs to one owner', async () => {
    await expect(FileBackend.open({ directory: place.directory })).rejects.toMatchObject({ code: 'storage.in_use' });
    await backend.health();
  });

  it('stops without leaving anything, and comes back as it was', async () => {
    const running = await daemon();
    await backend.stop();
    expect(isAlive(running)).toBe(false);
    expect(await mounts()).toEqual([]);
    expect((await readdir(place.directory)).filter((name) => /daemon\.(sock|json)/.test(name))).toEqual([]);
    backend = await FileBackend.open({ directory: place.directory });
    expect([await firstByte('aimg2'), await firstByte('aimg3')]).toEqual([0x61, 0x61]);
  });

  it('keeps golden files read-only and disks private, and lists and removes what an interrupted call left', async () => {
    const mode = async (...names: string[]) => ((await stat(at(...names))).mode & 0o777).toString(8);
    expect(await mode('volumes', 'aimg1.golden.raw')).toBe('440');
    expect(await mode('volumes', 'aimg2.aimg1.qcow2')).toBe('600');
    expect([await mode('volumes'), await mode('attached')]).toEqual(['700', '700']);
    await writeFile(at('volumes', 'aimg7.partial'), 'half an image');
    expect(await backend.list()).toContainEqual(
      expect.objectContaining({ name: 'aimg7', kind: 'partial', sizeBytes: 13 }),
    );
    await backend.ensureClone({ golden: 'aimg1' }, disk('aimg7'));
    expect((await backend.list()).filter((info) => info.name === 'aimg7')).toMatchObject([{ kind: 'disk' }]);
    await writeFile(at('volumes', 'aimg8.partial'), 'half an image');
    await restart();
    await backend.ensureNoDisk(disk('aimg8'));
    expect((await backend.list()).map((info) => info.name)).not.toContain('aimg8');
  });
});

describe('the file backend in a wrong place', () => {
  it('refuses a state directory whose path is too long for a UNIX socket', async () => {
    const directory = at('x'.repeat(100));
    await expect(FileBackend.open({ directory })).rejects.toMatchObject({
      code: 'storage.misconfigured',
      message: expect.stringContaining('shorter'),
    });
  });

  it('says which program is missing', async () => {
    const [directory, path] = [at('other'), process.env['PATH']];
    process.env['PATH'] = at();
    try {
      await expect(FileBackend.open({ directory })).rejects.toThrow('qemu-system-common');
    } finally {
      process.env['PATH'] = path;
    }
  });

  it('says that the daemon did not start, in its words', async () => {
    const [bin, path] = [await mkdtemp(join(tmpdir(), 'm2-bin-')), process.env['PATH']];
    await writeFile(join(bin, 'qemu-storage-daemon'), '#!/bin/sh\necho out of luck >&2\nexit 1\n');
    await chmod(join(bin, 'qemu-storage-daemon'), 0o755);
    process.env['PATH'] = `${bin}:${path}`;
    try {
      await expect(FileBackend.open({ directory: at('other') })).rejects.toThrow('out of luck');
    } finally {
      process.env['PATH'] = path;
      await rm(bin, { recursive: true });
    }
  });
});
