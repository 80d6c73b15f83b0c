import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, vi } from 'vitest';
import type { ExportSpec, IsWanted, TargetDriver } from '../target.port.js';
import { Initiator, type Login } from './initiator.js';

/** What targets open: files, or what is made to look like one. All have the same size. */
export interface TestDisks {
  direct: boolean;
  /** Returns the path. */
  create(pool: string, id: string): Promise<string>;
  remove(path: string): Promise<void>;
  /** A new one at the path of one that was removed. */
  replace(path: string): Promise<void>;
}

/** A driver's own part of the suite: one for each test, with its own hardware. */
export interface TargetHarness {
  /** Absent: files in the directory of the test. */
  disks?: TestDisks;
  /** Opens a driver. After the close() of an earlier one it is a restart of the service. */
  open(isWanted: IsWanted): Promise<TargetDriver>;
  /** The process that serves a pool. */
  processOf(pool: string): number;
  /** Leaves nothing behind, whatever happened. */
  stop(): Promise<void>;
}

export const IMAGE_BYTES = 2 * 1024 * 1024;
/** Status class and detail of a login response (RFC 7143 section 11.13.5). */
export const LOGIN_REFUSED = { auth: 0x0201, notFound: 0x0203 };

/** What each test of the suite gets: a driver, exports of copies of an image, initiators that end with the test. */
export class TargetFixture {
  dir!: string;
  harness!: TargetHarness;
  driver!: TargetDriver;
  image!: Buffer;
  /** The pools that should have exports, as the service's database says. */
  readonly wanted = new Set<string>();
  private readonly initiators: Initiator[] = [];

  constructor(makeHarness: (dir: string) => TargetHarness) {
    beforeEach(async () => {
      this.dir = await mkdtemp(join(tmpdir(), 'm2-target-'));
      this.image = randomBytes(IMAGE_BYTES);
      this.harness = makeHarness(this.dir);
      this.wanted.clear();
      this.driver = await this.open();
    });
    afterEach(async () => {
      for (const initiator of this.initiators.splice(0)) initiator.close();
      // The hardware first, so that nothing is left even when the driver hangs; again for what the driver started meanwhile.
      await this.harness.stop();
      await this.driver.close();
      await this.harness.stop();
      await rm(this.dir, { recursive: true, force: true });
    });
  }

  /** An export of a copy of the image, not created yet. */
  async newSpec(pool = 'tenant-a', readOnly = false): Promise<ExportSpec> {
    const id = randomUUID();
    const path = await this.disks.create(pool, id);
    await this.fill(path, this.image);
    return {
      pool,
      iqn: `iqn.2024-01.org.m2:${id}`,
      backing: { type: 'file', path, direct: this.disks.direct },
      initiator: `iqn.2024-01.org.m2:node-${id}`,
      chap: { user: id, secret: randomBytes(12).toString('base64url') },
      readOnly,
    };
  }

  get disks(): TestDisks {
    return this.harness.disks ?? plainFiles(this.dir);
  }

  /** Replaces the content of a disk without telling its target. */
  async fill(path: string, content: Buffer): Promise<void> {
    await writeFile(path, content, { flag: 'r+' });
  }

  async ensure(spec: ExportSpec): Promise<Login> {
    const { portals } = await this.driver.ensureExport(spec);
    return { portal: portals[0]!, iqn: spec.iqn, initiator: spec.initiator, chap: spec.chap };
  }

  async logIn(login: Login): Promise<Initiator> {
    const initiator = await Initiator.login(login);
    this.initiators.push(initiator);
    return initiator;
  }

  async expectServed(login: Login): Promise<void> {
    const initiator = await this.logIn(login);
    const { status, data } = await initiator.read(0, 8);
    assert.equal(status, 0);
    assert.ok(data.equals(this.image.subarray(0, 4096)), 'the LUN has another content');
  }

  /** With `killed`, what serves that pool dies while the service is away. */
  async restartService({ killed }: { killed?: string } = {}): Promise<void> {
    await this.driver.close();
    if (killed !== undefined) {
      const pid = this.harness.processOf(killed);
      process.kill(pid, 'SIGKILL');
      await vi.waitFor(() => assert.throws(() => process.kill(pid, 0)), { timeout: 20_000 });
    }
    this.driver = await this.open();
  }

  private open(): Promise<TargetDriver> {
    return this.harness.open(async (pool) => this.wanted.has(pool));
  }

  /** Kills what serves the pool and waits until the driver has reported it. */
  async crash(pool: string): Promise<void> {
    const lost = vi.fn<(pool: string) => void>();
    this.driver.onInstanceLost(lost);
    process.kill(this.harness.processOf(pool), 'SIGKILL');
    await vi.waitFor(() => assert.deepEqual(lost.mock.calls, [[pool]]), { timeout: 20_000 });
  }
}

function plainFiles(dir: string): TestDisks {
  const replace = (path: string) => writeFile(path, Buffer.alloc(IMAGE_BYTES));
  return {
    direct: false,
    async create(_pool, id) {
      const path = join(dir, `${id}.raw`);
      await replace(path);
      return path;
    },
    remove: (path) => rm(path),
    replace,
  };
}
