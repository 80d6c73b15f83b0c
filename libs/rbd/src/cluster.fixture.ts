import { randomBytes } from 'node:crypto';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestCeph } from '@m2/lab/testing';
import { afterAll, afterEach, beforeAll } from 'vitest';
import { RbdClient } from './rbd-client.ts';
import type { ImageRef, RbdClientOptions } from './types.ts';

export const MiB = 2 ** 20;

/** A real cluster for the tests of a file, and clients that are closed after each test. */
export function useCluster<Ceph extends TestCeph>(start: () => Promise<Ceph>) {
  let directory: string;
  let ceph: Ceph;
  let clients: RbdClient[] = [];
  let count = 0;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'm2-rbd-'));
    ceph = await start();
  });
  afterEach(async () => {
    await Promise.all(clients.map((client) => client.close()));
    clients = [];
  });
  afterAll(async () => {
    await ceph?.stop();
    await rm(directory, { recursive: true });
  });

  const client = (options: Partial<RbdClientOptions> = {}) => {
    const made = RbdClient.open({ conf: ceph.conf, user: ceph.user, ...options });
    clients.push(made);
    return made;
  };

  return {
    get ceph() {
      return ceph;
    },
    client,
    path: (name: string) => join(directory, name),
    name: (kind: string) => `${kind}${(count += 1)}`,
    image: (kind = 'image'): ImageRef => ({ pool: ceph.imagePool, image: `${kind}${(count += 1)}` }),
    disk: (namespace = ''): ImageRef => ({ pool: ceph.diskPool, namespace, image: `disk${(count += 1)}` }),

    /** An image in which the first megabytes are data. */
    async filledImage(rbd: RbdClient, dataMiB: number, sizeMiB = dataMiB): Promise<ImageRef> {
      const ref = { pool: ceph.imagePool, image: `filled${(count += 1)}` };
      await rbd.create(ref, { sizeBytes: sizeMiB * MiB });
      const handle = await rbd.openImage(ref);
      await Promise.all(Array.from({ length: dataMiB }, (_, i) => handle.write(i * MiB, randomBytes(MiB))));
      await handle.close();
      return ref;
    },

    /** A raw file with holes: data of 3 MiB, of 64 KiB and of 700 bytes at its end, which is not at a sector boundary. */
    async sparseFile(): Promise<{ path: string; sizeBytes: number }> {
      const path = join(directory, `raw${(count += 1)}`);
      const sizeBytes = 40 * MiB + 700;
      const file = await open(path, 'wx');
      await file.write(randomBytes(3 * MiB), 0, 3 * MiB, 5 * MiB + 4096);
      await file.write(randomBytes(65_536), 0, 65_536, 21 * MiB);
      await file.write(randomBytes(700), 0, 700, sizeBytes - 700);
      await file.close();
      return { path, sizeBytes };
    },
  };
}
