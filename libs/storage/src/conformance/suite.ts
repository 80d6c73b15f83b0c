import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { StorageError } from '../storage.port.js';
import type { DiskVolume, LongWork, Readable, StorageBackend, StorageErrorCode, VolumeInfo } from '../storage.port.js';
import type { OpenDisk, StorageHarness } from './harness.js';
import type { TestImages } from './images.js';

const patienceMs = 10_000;

/** What the parts of the suite share: the backend under test, unique names for each test, and ways to look at bytes. */
export class Suite {
  harness!: StorageHarness;
  backend!: StorageBackend;
  images!: TestImages;
  readonly projects = [randomUUID(), randomUUID()] as const;
  private tests = 0;

  begin(): void {
    this.tests += 1;
  }

  /** Removes what the test created, because the storage of a test is small. Clones go before their origins. */
  async end(): Promise<void> {
    // A storage may let go of what was just read a moment later.
    const until = performance.now() + patienceMs;
    for (let left = await this.mine(); left.length > 0;) {
      for (const { name, project, kind } of left) {
        const disk = { project: project ?? this.projects[0], name };
        if (kind === 'disk') await this.backend.ensureDetached(disk);
        await doneUnless('storage.in_use', this.backend.ensureNoDisk(disk));
        await doneUnless('storage.in_use', this.backend.ensureNoGolden(name));
      }
      const now = await this.mine();
      if (now.length === left.length && performance.now() > until)
        throw new Error(`cannot be removed: ${JSON.stringify(now)}`);
      left = now;
    }
  }

  /** By custom, `name(0)` is the test's golden volume. */
  name(n: number): string {
    return `t${this.tests}ximg${n}`;
  }

  disk(n: number): DiskVolume {
    return { project: this.projects[0], name: this.name(n) };
  }

  async golden(n = 0): Promise<string> {
    await this.backend.ensureGolden(this.name(n), { path: this.images.raw, format: 'raw' });
    return this.name(n);
  }

  async clone(n: number): Promise<DiskVolume> {
    await this.backend.ensureClone({ golden: await this.golden() }, this.disk(n));
    return this.disk(n);
  }

  /** This test's volumes. */
  async mine(): Promise<VolumeInfo[]> {
    const prefix = this.name(0).slice(0, -1);
    return (await this.backend.list()).filter((info) => info.name.startsWith(prefix));
  }

  async tagsOf(disk: DiskVolume): Promise<string[] | undefined> {
    return (await this.mine()).find((info) => info.name === disk.name)?.tags.toSorted();
  }

  async names(): Promise<string[]> {
    return (await this.mine()).map((info) => info.name).sort();
  }

  async reopen(): Promise<void> {
    await this.backend.close();
    this.backend = await this.harness.open();
  }

  /** Attaches a disk and opens it while `work` runs. It stays attached. */
  async held<T>(disk: DiskVolume, work: (io: OpenDisk) => Promise<T>): Promise<T> {
    const io = await this.harness.io.open(await this.backend.ensureAttached(disk));
    try {
      return await work(io);
    } finally {
      await io.close();
    }
  }

  /** Like `held`, and detaches it after that. */
  async used<T>(disk: DiskVolume, work: (io: OpenDisk) => Promise<T>): Promise<T> {
    const result = await this.held(disk, work);
    await this.backend.ensureDetached(disk);
    return result;
  }

  write(disk: DiskVolume, offset: number, bytes: Buffer): Promise<void> {
    return this.used(disk, (io) => io.write(offset, bytes));
  }

  read(disk: DiskVolume, offset: number, length: number): Promise<Buffer> {
    return this.used(disk, (io) => io.read(offset, length));
  }

  /** The whole content, from the extents with data. */
  async content(readable: Readable): Promise<Buffer> {
    const reader = await this.backend.openReader(readable);
    try {
      const bytes = Buffer.alloc(reader.sizeBytes);
      for await (const { offset, length, data } of reader.extents()) {
        if (data) (await reader.read(offset, length)).copy(bytes, offset);
      }
      return bytes;
    } finally {
      await reader.close();
    }
  }
}

export async function collected<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** The whole content of an open disk. */
export function whole(io: OpenDisk): Promise<Buffer> {
  return io.read(0, io.sizeBytes);
}

/** `bytes` with `patch` at `offset`. */
export function patched(bytes: Buffer, offset: number, patch: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  patch.copy(copy, offset);
  return copy;
}

/** Aborts long work when it is under way. Returns false when it was done before, as where everything is shared. */
export async function stoppedHalfway(call: (work: LongWork) => Promise<unknown>): Promise<boolean> {
  const cancel = new AbortController();
  const onProgress = (done: number, total: number) => {
    if (done < total) cancel.abort(new Error('enough'));
  };
  return call({ signal: cancel.signal, onProgress }).then(
    () => false,
    (error: unknown) => {
      if (error === cancel.signal.reason) return true;
      throw error;
    },
  );
}

/** Returns false when it was refused with `code`. Throws any other error. */
export function doneUnless(code: StorageErrorCode, work: Promise<unknown>): Promise<boolean> {
  return work.then(
    () => true,
    (error: unknown) => {
      if (error instanceof StorageError && error.code === code) return false;
      throw error;
    },
  );
}

export async function until(condition: () => boolean, deadlineMs = 60_000): Promise<void> {
  const deadline = performance.now() + deadlineMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${deadlineMs} ms: ${condition.toString()}`);
    await pause(10);
  }
}
