import { type Call, diskCreate, imageImport, imageShow, type InputOf, type ReplyOf } from '@m2/contracts';
import type { ServiceDefinition } from '@m2/service-kit';
import { openTestEnvironment, type TestPostgres, until } from '@m2/service-kit/testing';
import { Module } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { STORAGE } from '../storage/storage.token.js';
import { imageConfig } from '../config.js';
import { controllers, providers } from '../providers.js';
import { migrations } from '../migrations.js';
import { RecordedStorage } from './recorded-storage.js';

/** The `from` of the command that creates a disk. */
export const ofImage = (image: string) => ({ kind: 'image' as const, image });
export const ofDisk = (disk: string, tag?: string) => ({ kind: 'disk' as const, disk, ...(tag && { tag }) });

/** image-svc with a real PostgreSQL and NATS, all of its handlers, and a storage that records its calls. `ownPostgres` for tests that halt it. */
export async function openImage(settings: Record<string, string> = {}, ownPostgres?: TestPostgres) {
  const directory = mkdtempSync(join(tmpdir(), 'm2-image-'));
  const env = await openTestEnvironment(ownPostgres);
  const storage = new RecordedStorage();

  @Module({ controllers, providers: [...providers, { provide: STORAGE, useValue: storage }] })
  class RecordedModule {}
  const definition: ServiceDefinition<typeof imageConfig> = {
    name: 'image',
    config: imageConfig,
    module: RecordedModule,
    migrations,
    entities: [],
  };
  const quiet = { write: () => true } as unknown as NodeJS.WritableStream;
  const environment = {
    M2_DATABASE_URL: await env.postgres.database(),
    M2_STORAGE_DIRECTORY: join(directory, 'storage'),
    M2_IMPORT_DIRECTORIES: directory,
    ...settings,
  };
  const start = (more: Record<string, string> = {}) => env.run(definition, { ...environment, ...more }, quiet);
  let running = await start();
  const bus = await env.bus();
  const tell = <C extends Call>(
    call: C,
    input: InputOf<C>,
    effect = `${randomUUID()}/step/do`,
    fence = 1,
  ): Promise<ReplyOf<C>> => bus.request(call, input, { deadlineMs: 10_000, effect, fence });
  const ask = <C extends Call>(call: C, input: InputOf<C>): Promise<ReplyOf<C>> =>
    bus.request(call, input, { deadlineMs: 10_000 });
  let count = 0;
  return {
    env,
    storage,
    tell,
    ask,
    get kit() {
      return running.kit;
    },
    /** Stops the service and starts it again, as a new process would. */
    async restart(meanwhile: () => Promise<unknown> = async () => {}, more: Record<string, string> = {}) {
      await running.stop();
      await meanwhile();
      running = await start(more);
    },
    /** Makes a raw image with a boot sector's signature. */
    file(sectors = 8): string {
      const bytes = Buffer.alloc(sectors * 512);
      bytes.writeUInt16BE(0x55aa, 510);
      const path = join(directory, `image-${(count += 1)}.raw`);
      writeFileSync(path, bytes);
      return path;
    },
    request(more: object = {}): InputOf<typeof imageImport> {
      const source = { kind: 'file' as const, path: this.file() };
      return { imageId: randomUUID(), project: randomUUID(), name: `image-${count}`, source, ...more };
    },
    /** Waits for the end of an import, and returns the image. */
    imported: ({ imageId, project }: { imageId: string; project: string }) =>
      until('the import has ended', async () => {
        const image = await ask(imageShow, { image: imageId, project });
        return image.state === 'importing' ? undefined : image;
      }),
    async image(more: object = {}) {
      const request = this.request(more);
      await tell(imageImport, request);
      return this.imported(request);
    },
    async disk(more: object = {}) {
      const { id: image, project } = await this.image();
      return tell(diskCreate, {
        diskId: randomUUID(),
        project,
        name: `disk-${count}`,
        from: ofImage(image),
        ...more,
      });
    },
    staged: () => readdirSync(join(directory, 'storage', 'staging')),
    async events(entity: string) {
      const rows = await running.kit.database.query<{ type: string }>(
        'SELECT type FROM m2_outbox WHERE entity = $1 ORDER BY sequence',
        [entity],
      );
      return rows.map(({ type }) => type);
    },
    async close() {
      await env.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
export type TestImage = Awaited<ReturnType<typeof openImage>>;
