import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { IMAGE_BYTES, LOGIN_REFUSED, type TargetFixture } from './fixture.js';
import { Initiator } from './initiator.js';

export function exportSuite(t: TargetFixture): void {
  describe('ensureExport', () => {
    it('changes nothing when it is repeated, and leaves sessions alone', async () => {
      const spec = await t.newSpec();
      const first = await t.driver.ensureExport(spec);
      const login = { portal: first.portals[0]!, iqn: spec.iqn, initiator: spec.initiator, chap: spec.chap };
      const session = await t.logIn(login);
      const before = await t.driver.observe();
      expect(await t.driver.ensureExport(spec)).toEqual(first);
      expect(await t.driver.observe()).toEqual(before);
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
      const spec = await t.newSpec();
      const old = await t.ensure(spec);
      const session = await t.logIn(old);
      const next = {
        ...(await t.newSpec()),
        iqn: spec.iqn,
        chap: { user: spec.chap.user, secret: 'another-secret-1' },
      };
      await t.fill(next.backing.path, Buffer.alloc(IMAGE_BYTES, 7));
      const login = await t.ensure(next);
      await vi.waitFor(() => expect(session.cut).toBe(true));
      await expect(Initiator.login(old)).rejects.toThrow('refused');
      expect((await (await t.logIn(login)).read(0, 1)).data).toEqual(Buffer.alloc(512, 7));
      expect(await t.driver.observe()).toHaveLength(1);
    });

    it('takes a new secret without cutting the session, also from a service that has just started', async () => {
      const spec = await t.newSpec();
      const login = await t.ensure(spec);
      const session = await t.logIn(login);
      for (const restart of [false, true]) {
        if (restart) await t.restartService();
        const chap = { user: spec.chap.user, secret: `new-secret-${restart}` };
        await t.driver.ensureExport({ ...spec, chap });
        await t.expectServed({ ...login, chap });
        await expect(Initiator.login(login)).rejects.toMatchObject({ status: LOGIN_REFUSED.auth });
        expect((await session.read(0, 1)).status).toBe(0);
      }
    });

    it('makes a LUN again whose file was replaced', async () => {
      const spec = await t.newSpec();
      await t.ensure(spec);
      await t.disks.remove(spec.backing.path);
      expect(await t.driver.observe()).toMatchObject([{ iqn: spec.iqn, backingPath: null }]);
      t.image = randomBytes(IMAGE_BYTES);
      await t.disks.replace(spec.backing.path);
      await t.fill(spec.backing.path, t.image);
      await t.expectServed(await t.ensure(spec));
    });

    it('says what is wrong with a backing store, and leaves nothing half made', async () => {
      const spec = await t.newSpec();
      const missing = { ...spec, backing: { type: 'file' as const, path: join(t.dir, 'missing') } };
      await expect(t.driver.ensureExport(missing)).rejects.toMatchObject({ code: 'target.no_backing' });
      const folder = { ...spec, backing: { type: 'file' as const, path: t.dir } };
      await expect(t.driver.ensureExport(folder)).rejects.toMatchObject({ code: 'target.no_backing' });
      expect(await t.driver.observe()).toEqual([]);
      await t.expectServed(await t.ensure(spec));
    });

    it('refuses a CHAP user that another export has', async () => {
      const [one, two] = [await t.newSpec(), await t.newSpec()];
      const login = await t.ensure(one);
      await expect(t.driver.ensureExport({ ...two, chap: { ...two.chap, user: one.chap.user } })).rejects.toMatchObject(
        {
          code: 'target.exists',
        },
      );
      await t.expectServed(login);
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
      await expect(t.driver.ensureExport({ ...(await t.newSpec()), ...change })).rejects.toMatchObject({
        code: 'target.invalid_value',
      });
      expect(await t.driver.observe()).toEqual([]);
    });

    it('makes 24 at once, in one pool and in several', async () => {
      const specs = await Promise.all(
        Array.from({ length: 24 }, (_, i) => t.newSpec(i < 16 ? 'shared' : `tenant-${i}`)),
      );
      const logins = await Promise.all(specs.map((value) => t.ensure(value)));
      await Promise.all(logins.map((value) => t.expectServed(value)));
      expect((await t.driver.observe()).map(({ iqn }) => iqn).sort()).toEqual(specs.map(({ iqn }) => iqn).sort());
      await Promise.all(specs.map(({ pool, iqn }) => t.driver.ensureNoExport(pool, iqn)));
      expect(await t.driver.observe()).toEqual([]);
    });
  });
}
