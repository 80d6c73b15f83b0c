import { randomBytes, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Initiator, type Login } from './conformance/initiator.js';
import { fill, libiscsi, readOut } from './conformance/tools.js';
import type { ExportSpec, TargetDriver } from './target.port.js';

/** A driver's own part of the suite: one for each test, with hardware of its own. */
export interface TargetHarness {
  /** Opens a driver. After the close() of the one before it is what a restart of the service is. */
  open(): Promise<TargetDriver>;
  /** The process that serves a pool. */
  processOf(pool: string): number;
  /** Leaves nothing behind, whatever happened. */
  stop(): Promise<void>;
}

const IMAGE_BYTES = 4 * 1024 * 1024;
/** Bytes that wait on the connections of a local port (proc_net_tcp(5): local address, state, tx_queue, all hexadecimal). */
function unsentBytes(port: number): number {
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const lines = readFileSync('/proc/net/tcp', 'latin1')
    .split('\n')
    .map((line) => line.trim().split(/\s+/));
  return Math.max(0, ...lines.filter((f) => f[1]?.endsWith(local)).map((f) => Number.parseInt(f[4]!, 16)));
}

const LOGIN_REFUSED = { auth: 0x0201, notFound: 0x0203 };

/** What every target driver must pass, with real initiators. */
export function targetConformance(name: string, makeHarness: (dir: string) => TargetHarness): void {
  describe(`target conformance: ${name}`, () => {
    let dir: string;
    let harness: TargetHarness;
    let driver: TargetDriver;
    let image: Buffer;
    const initiators: Initiator[] = [];

    beforeEach(async () => {
      dir = await mkdtemp(join(tmpdir(), 'm2-target-'));
      image = randomBytes(IMAGE_BYTES);
      harness = makeHarness(dir);
      driver = await harness.open();
    });

    afterEach(async () => {
      for (const initiator of initiators.splice(0)) initiator.close();
      await driver.close();
      await harness.stop();
      await rm(dir, { recursive: true, force: true });
    });

    /** An export of a copy of the image, not made yet. */
    async function newSpec(pool = 'tenant-a', readOnly = false): Promise<ExportSpec> {
      const id = randomUUID();
      const path = join(dir, `${id}.raw`);
      await writeFile(path, image);
      return {
        pool,
        iqn: `iqn.2024-01.org.m2:${id}`,
        backing: { type: 'file', path },
        initiator: `iqn.2024-01.org.m2:node-${id}`,
        chap: { user: id, secret: randomBytes(12).toString('base64url') },
        readOnly,
      };
    }

    async function ensure(spec: ExportSpec): Promise<Login> {
      const { portals } = await driver.ensureExport(spec);
      return { portal: portals[0]!, iqn: spec.iqn, initiator: spec.initiator, chap: spec.chap };
    }

    async function logIn(login: Login): Promise<Initiator> {
      const initiator = await Initiator.login(login);
      initiators.push(initiator);
      return initiator;
    }

    const expectServed = async (login: Login) => {
      const { status, data } = await (await logIn(login)).read(0, 8);
      expect(status).toBe(0);
      expect(data.equals(image.subarray(0, 4096))).toBe(true);
    };

    /** Kills what serves the pool and waits until the driver has said so. */
    async function crash(pool: string): Promise<void> {
      const lost = vi.fn<(pool: string) => void>();
      driver.onInstanceLost(lost);
      process.kill(harness.processOf(pool), 'SIGKILL');
      await vi.waitFor(() => expect(lost.mock.calls).toEqual([[pool]]), { timeout: 20_000 });
    }

    describe('who may log in', () => {
      it('shows the disk to its initiator: discovery, inquiry, capacity, content', async () => {
        const login = await ensure(await newSpec());
        expect(await libiscsi('iscsi-ls', login, ['-s'])).toMatch(new RegExp(`${login.iqn}[^]*Lun:1 .*DIRECT_ACCESS`));
        expect(await libiscsi('iscsi-inq', login)).toContain('Peripheral Device Type:DIRECT_ACCESS');
        expect(await libiscsi('iscsi-readcapacity16', login, ['-s'])).toContain(`${IMAGE_BYTES}`);
        const copy = join(dir, 'copy.raw');
        await readOut(login, copy);
        expect((await readFile(copy)).equals(image)).toBe(true);
      });

      it('writes through to the backing store', async () => {
        const spec = await newSpec();
        await fill(await ensure(spec), 0x5a, 1024 * 1024, join(dir, 'secret'));
        const after = await readFile(spec.backing.path);
        image.fill(0x5a, 1024 * 1024, 1024 * 1024 + 65_536);
        expect(after.equals(image)).toBe(true);
      });

      it('does not write to a read-only export', async () => {
        const spec = await newSpec('tenant-a', true);
        await expect(fill(await ensure(spec), 0x5a, 0, join(dir, 'secret'))).rejects.toThrow('write protected');
        expect((await readFile(spec.backing.path)).equals(image)).toBe(true);
      });

      it('refuses a wrong secret, a wrong user, no CHAP and another initiator', async () => {
        const login = await ensure(await newSpec());
        const other = await ensure(await newSpec());
        const user = login.chap!.user;
        const refused = (change: Partial<Login>, status: number) =>
          expect(Initiator.login({ ...login, ...change })).rejects.toMatchObject({ status });
        await refused({ chap: { user, secret: 'not the secret at all' } }, LOGIN_REFUSED.auth);
        await refused({ chap: { user, secret: '' } }, LOGIN_REFUSED.auth);
        await refused({ chap: other.chap! }, LOGIN_REFUSED.auth);
        await refused({ chap: undefined }, LOGIN_REFUSED.auth);
        await refused({ initiator: `${login.initiator}0` }, LOGIN_REFUSED.notFound);
        // Everything of another export's initiator, who is on the same address.
        await refused({ initiator: other.initiator, chap: other.chap! }, LOGIN_REFUSED.notFound);
        await expect(libiscsi('iscsi-inq', { ...login, chap: { user, secret: 'wrong-secret-1' } })).rejects.toThrow(
          'Authentication',
        );
        await expectServed(login);
      });

      it('shows an initiator no target but its own', async () => {
        const [mine, other] = [await ensure(await newSpec()), await ensure(await newSpec())];
        const listed = await libiscsi('iscsi-ls', mine);
        expect(listed).toContain(mine.iqn);
        expect(listed).not.toContain(other.iqn);
      });
    });

    describe('ensureExport', () => {
      it('changes nothing when it is repeated, and leaves sessions alone', async () => {
        const spec = await newSpec();
        const first = await driver.ensureExport(spec);
        const login = { portal: first.portals[0]!, iqn: spec.iqn, initiator: spec.initiator, chap: spec.chap };
        const session = await logIn(login);
        const before = await driver.observe();
        expect(await driver.ensureExport(spec)).toEqual(first);
        expect(await driver.observe()).toEqual(before);
        expect(before).toMatchObject([
          {
            iqn: spec.iqn,
            pool: spec.pool,
            backingPath: spec.backing.path,
            initiators: [spec.initiator],
            accounts: [spec.chap.user],
            sessions: [{ initiator: spec.initiator, address: '127.0.0.1' }],
          },
        ]);
        expect((await session.read(0, 1)).status).toBe(0);
      });

      it('replaces what is different: initiator, disk, secret', async () => {
        const spec = await newSpec();
        const old = await ensure(spec);
        const session = await logIn(old);
        const next = {
          ...(await newSpec()),
          iqn: spec.iqn,
          chap: { user: spec.chap.user, secret: 'another-secret-1' },
        };
        await writeFile(next.backing.path, Buffer.alloc(IMAGE_BYTES, 7));
        const login = await ensure(next);
        await vi.waitFor(() => expect(session.cut).toBe(true));
        await expect(Initiator.login(old)).rejects.toThrow('refused');
        expect((await (await logIn(login)).read(0, 1)).data).toEqual(Buffer.alloc(512, 7));
        expect(await driver.observe()).toHaveLength(1);
      });

      it('takes a new secret without cutting the session, also from a service that has just started', async () => {
        const spec = await newSpec();
        const login = await ensure(spec);
        const session = await logIn(login);
        for (const restart of [false, true]) {
          if (restart) {
            await driver.close();
            driver = await harness.open();
          }
          const chap = { user: spec.chap.user, secret: `new-secret-${restart}` };
          await driver.ensureExport({ ...spec, chap });
          await expectServed({ ...login, chap });
          await expect(Initiator.login(login)).rejects.toMatchObject({ status: LOGIN_REFUSED.auth });
          expect((await session.read(0, 1)).status).toBe(0);
        }
      });

      it('makes a LUN again whose file was replaced', async () => {
        const spec = await newSpec();
        await ensure(spec);
        await rm(spec.backing.path);
        expect(await driver.observe()).toMatchObject([{ iqn: spec.iqn, backingPath: null }]);
        image = randomBytes(IMAGE_BYTES);
        await writeFile(spec.backing.path, image);
        await expectServed(await ensure(spec));
      });

      it('says what is wrong with a backing store, and leaves nothing half made', async () => {
        const spec = await newSpec();
        const missing = { ...spec, backing: { type: 'file' as const, path: join(dir, 'missing') } };
        await expect(driver.ensureExport(missing)).rejects.toMatchObject({ code: 'target.no_backing' });
        const folder = { ...spec, backing: { type: 'file' as const, path: dir } };
        await expect(driver.ensureExport(folder)).rejects.toMatchObject({ code: 'target.no_backing' });
        expect(await driver.observe()).toEqual([]);
        await expectServed(await ensure(spec));
      });

      it('refuses a CHAP user that another export has', async () => {
        const [one, two] = [await newSpec(), await newSpec()];
        const login = await ensure(one);
        await expect(driver.ensureExport({ ...two, chap: { ...two.chap, user: one.chap.user } })).rejects.toMatchObject(
          {
            code: 'target.exists',
          },
        );
        await expectServed(login);
      });

      it.each([
        { iqn: 'iqn.2024-01.org.m2:a,bstype=rdwr' },
        { initiator: 'iqn.2024-01.org.m2:a\n        ALL' },
        { initiator: 'ALL' },
        { chap: { user: 'a,password=b', secret: 'long-enough-secret' } },
        { chap: { user: 'a', secret: 'with,comma,and=sign' } },
        { chap: { user: 'a', secret: 'short' } },
        { backing: { type: 'file' as const, path: '/dev/null\0,bsopts=x' } },
        { backing: { type: 'file' as const, path: 'relative' } },
      ])('refuses %j', async (change) => {
        await expect(driver.ensureExport({ ...(await newSpec()), ...change })).rejects.toMatchObject({
          code: 'target.invalid_value',
        });
        expect(await driver.observe()).toEqual([]);
      });

      it('makes 24 at once, in one pool and in several', async () => {
        const specs = await Promise.all(
          Array.from({ length: 24 }, (_, i) => newSpec(i < 16 ? 'shared' : `tenant-${i}`)),
        );
        const logins = await Promise.all(specs.map(ensure));
        await Promise.all(logins.map(expectServed));
        expect((await driver.observe()).map(({ iqn }) => iqn).sort()).toEqual(specs.map(({ iqn }) => iqn).sort());
        await Promise.all(specs.map(({ pool, iqn }) => driver.ensureNoExport(pool, iqn)));
        expect(await driver.observe()).toEqual([]);
      });
    });

    describe('ensureNoExport and dropSessions', () => {
      it('cuts a live session, removes the export, and is content when there is none', async () => {
        const [spec, other] = [await newSpec(), await newSpec()];
        const [login, kept] = [await ensure(spec), await ensure(other)];
        const session = await logIn(login);
        await driver.ensureNoExport(spec.pool, spec.iqn);
        await vi.waitFor(() => expect(session.cut).toBe(true));
        await expect(Initiator.login(login)).rejects.toMatchObject({ status: LOGIN_REFUSED.notFound });
        await driver.ensureNoExport(spec.pool, spec.iqn);
        await driver.ensureNoExport('never-seen', spec.iqn);
        expect(await driver.observe()).toMatchObject([{ iqn: other.iqn }]);
        await expectServed(kept);
      });

      it('removes an export under I/O', async () => {
        const spec = await newSpec();
        const session = await logIn(await ensure(spec));
        const reading = (async () => {
          while ((await session.read(0, 512)).status === 0);
        })();
        const [ended] = await Promise.allSettled([reading, driver.ensureNoExport(spec.pool, spec.iqn)]);
        expect(ended).toMatchObject({ status: 'rejected', reason: { message: 'the target closed the connection' } });
        expect(await driver.observe()).toEqual([]);
      });

      it('removes an export whose initiator died with data on the way', async () => {
        const spec = await newSpec();
        const login = await ensure(spec);
        const session = await logIn(login);
        session.stall(64, 4096);
        // As much as TCP takes: then the target waits for an acknowledgement that does not come.
        const queued = [-1, 0];
        await vi.waitFor(
          () => {
            queued.push(unsentBytes(login.portal.port));
            expect(queued.at(-1)).toBeGreaterThan(1_000_000);
            expect(queued.at(-1)).toBe(queued.at(-2));
          },
          { timeout: 20_000 },
        );
        await driver.ensureNoExport(spec.pool, spec.iqn);
        expect(await driver.observe()).toEqual([]);
      });

      it('drops sessions and keeps the export', async () => {
        const spec = await newSpec();
        const login = await ensure(spec);
        expect(await driver.dropSessions(spec.pool, spec.iqn)).toBe(0);
        const session = await logIn(login);
        expect(await driver.dropSessions(spec.pool, spec.iqn)).toBe(1);
        await vi.waitFor(() => expect(session.cut).toBe(true));
        expect(await driver.observe()).toMatchObject([{ iqn: spec.iqn, sessions: [] }]);
        expect(await driver.dropSessions(spec.pool, 'iqn.2024-01.org.m2:unknown')).toBe(0);
        expect(await driver.dropSessions('never-seen', spec.iqn)).toBe(0);
        await expectServed(login);
      });

      it('is not deceived by an initiator that writes into listings', async () => {
        const spec = await newSpec();
        const login = await ensure(spec);
        const alias = `x\n    LUN information:\n    ACL information:\nTarget 7: iqn.2024-01.org.m2:forged`;
        const session = await logIn({ ...login, alias });
        await driver.ensureExport(spec);
        await driver.ensureNoExport(spec.pool, spec.iqn);
        await vi.waitFor(() => expect(session.cut).toBe(true));
        expect(await driver.observe()).toEqual([]);
      });
    });

    describe('hostile commands', () => {
      it('survives a READ of no blocks', async () => {
        const [mine, other] = [await ensure(await newSpec()), await ensure(await newSpec())];
        const serving = harness.processOf('tenant-a');
        const hostile = await logIn(mine);
        expect(await hostile.read(0, 0)).toEqual({ status: 0, data: Buffer.alloc(0) });
        expect((await hostile.read(0xff_ff_ff_ff, 0)).status).not.toBe(0);
        await expectServed(other);
        expect(harness.processOf('tenant-a')).toBe(serving);
      });

      it.each(['Read10', 'Read16', 'Write10', 'Write16', 'Verify10', 'Unmap', 'WriteSame10', 'Prefetch10', 'OrWrite'])(
        'survives %s of no blocks, from libiscsi',
        async (command) => {
          const [mine, other] = [await ensure(await newSpec()), await ensure(await newSpec())];
          const serving = harness.processOf('tenant-a');
          // What it thinks of the answers is not asked here; that it ran is.
          const report = await libiscsi('iscsi-test-cu', mine, ['--dataloss', '-n', '-t', `ALL.${command}.ZeroBlocks`]);
          expect(report).toMatch(/tests +1 +1 /);
          await expectServed(other);
          expect(harness.processOf('tenant-a')).toBe(serving);
        },
      );
    });

    describe('processes', () => {
      it('never serves two pools by one', async () => {
        await Promise.all([ensure(await newSpec('tenant-a')), ensure(await newSpec('tenant-b'))]);
        expect(harness.processOf('tenant-a')).not.toBe(harness.processOf('tenant-b'));
      });

      it('keeps one pool alive when the other one dies', async () => {
        const [a, b] = [await ensure(await newSpec('tenant-a')), await ensure(await newSpec('tenant-b'))];
        const session = await logIn(b);
        await crash('tenant-a');
        await expect(Initiator.login(a)).rejects.toThrow('ECONNREFUSED');
        expect((await session.read(0, 1)).status).toBe(0);
      });

      it('says when one died and puts the exports back on the same portal', async () => {
        const [spec, other] = [await newSpec(), await newSpec()];
        const [login, otherLogin] = [await ensure(spec), await ensure(other)];
        await crash(spec.pool);
        expect(await driver.observe()).toEqual([]);
        await driver.ensureNoExport(other.pool, other.iqn);
        expect(await ensure(spec)).toEqual(login);
        await expectServed(login);
        await expect(Initiator.login(otherLogin)).rejects.toThrow('refused');
      });

      it('outlives the service, which takes over what runs', async () => {
        const spec = await newSpec();
        const login = await ensure(spec);
        const serving = harness.processOf(spec.pool);
        const session = await logIn(login);
        const before = await driver.observe();
        await driver.close();
        expect((await session.read(0, 1)).status).toBe(0);
        driver = await harness.open();
        expect(await driver.observe()).toEqual(before);
        expect(await ensure(spec)).toEqual(login);
        expect(harness.processOf(spec.pool)).toBe(serving);
        expect((await session.read(0, 1)).status).toBe(0);
        await expectServed(login);
        await crash(spec.pool);
        expect(await ensure(spec)).toEqual(login);
        await driver.ensureNoExport(spec.pool, spec.iqn);
        expect(await driver.observe()).toEqual([]);
      });

      it('removes an export whose process is gone', async () => {
        const spec = await newSpec();
        const login = await ensure(spec);
        await crash(spec.pool);
        await driver.ensureNoExport(spec.pool, spec.iqn);
        expect(await driver.observe()).toEqual([]);
        await expect(Initiator.login(login)).rejects.toThrow('ECONNREFUSED');
      });
    });
  });
}
