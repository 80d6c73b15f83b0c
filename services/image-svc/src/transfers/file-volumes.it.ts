import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FileBackend } from '@m2/storage/drivers';
import { temporaryPlace, type TestPlace } from '@m2/storage/testing';
import { openDoor } from './door.fixture.js';
import type { Download } from './send-volume.js';

const MiB = 2 ** 20;
let place: TestPlace;
let storage: FileBackend;
const at = (name: string) => join(dirname(place.directory), name);

beforeEach(async () => {
  place = await temporaryPlace();
  storage = await FileBackend.open({ directory: place.directory });
});
afterEach(async () => {
  await storage.close();
  await place.teardown();
});

describe('the door before volumes that are files', () => {
  it('gives out what was imported, in both formats', async () => {
    const image = Buffer.concat([randomBytes(MiB), Buffer.alloc(30 * MiB), randomBytes(MiB)]);
    await writeFile(at('image.raw'), image);
    await storage.ensureGolden('a1img1', { path: at('image.raw'), format: 'raw' });
    const open = await openDoor({}, storage);
    try {
      const get = async (format: Download['format']) => {
        const { url, ticket } = open.door.openDownload({ readable: { golden: 'a1img1' }, name: 'image', format });
        const response = await fetch(url, { headers: { authorization: `Bearer ${ticket}` } });
        return Buffer.from(await response.arrayBuffer());
      };
      expect((await get('raw')).equals(image)).toBe(true);
      const qcow2 = await get('qcow2');
      expect(qcow2.length).toBeLessThan(3 * MiB);
      await writeFile(at('image.qcow2'), qcow2);
      const names = [at('image.qcow2'), at('image.raw')];
      await promisify(execFile)('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', ...names]);
    } finally {
      await open.close();
    }
  });
});
