import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Readable, StorageError, type StorageBackend } from '@m2/storage';
import type { ImageConfig } from '../config.js';
import type { MemoryVolume } from './memory-volume.fixture.js';
import { TransferDoor } from './transfer-door.js';

/** A real transfer door with its own directory. Its volumes are in memory, by name, or in another storage. */
export async function openDoor(config: Partial<ImageConfig> = {}, other?: StorageBackend) {
  const directory = await mkdtemp(join(tmpdir(), 'm2-door-'));
  const volumes = new Map<string, MemoryVolume>();
  const logged: { error: unknown[]; warn: unknown[] } = { error: [], warn: [] };
  const inMemory = {
    openReader: async (readable: Readable) => {
      const volume = 'golden' in readable ? volumes.get(readable.golden) : volumes.get(readable.disk.name);
      if (!volume) throw new StorageError('storage.not_found', 'There is no such volume. Look for it.');
      volume.isOpen = true;
      return volume;
    },
  } as unknown as StorageBackend;
  const start = async () => {
    const door = new TransferDoor(
      {
        config: { storageDirectory: directory, transferListen: { host: '127.0.0.1', port: 0 }, ...config },
        log: { error: (entry: unknown) => logged.error.push(entry), warn: (entry: unknown) => logged.warn.push(entry) },
      } as unknown as ConstructorParameters<typeof TransferDoor>[0],
      other ?? inMemory,
    );
    await door.onModuleInit();
    return door;
  };
  let door = await start().catch(async (error: unknown) => {
    await rm(directory, { recursive: true });
    throw error;
  });
  return {
    directory,
    volumes,
    logged,
    get door() {
      return door;
    },
    /** Opens the door again, as a new process of the service would. */
    async restart() {
      await door.beforeApplicationShutdown();
      door = await start();
    },
    async close() {
      await door.beforeApplicationShutdown();
      await rm(directory, { recursive: true });
    },
  };
}
export type TestDoor = Awaited<ReturnType<typeof openDoor>>;
