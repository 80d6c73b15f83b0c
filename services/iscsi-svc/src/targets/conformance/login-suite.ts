import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { IMAGE_BYTES, LOGIN_REFUSED, type TargetFixture } from './fixture.js';
import { Initiator, type Login } from './initiator.js';
import { fill, libiscsi, readOut } from './tools.js';

export function loginSuite(t: TargetFixture): void {
  describe('who may log in', () => {
    it('shows the disk to its initiator: discovery, inquiry, capacity, content', async () => {
      const login = await t.ensure(await t.newSpec());
      expect(await libiscsi('iscsi-ls', login, ['-s'])).toMatch(new RegExp(`${login.iqn}[^]*Lun:1 .*DIRECT_ACCESS`));
      expect(await libiscsi('iscsi-inq', login)).toContain('Peripheral Device Type:DIRECT_ACCESS');
      expect(await libiscsi('iscsi-readcapacity16', login, ['-s'])).toContain(`${IMAGE_BYTES}`);
      const copy = join(t.dir, 'copy.raw');
      await readOut(login, copy);
      expect((await readFile(copy)).equals(t.image)).toBe(true);
    });

    it('writes through to the backing store', async () => {
      const spec = await t.newSpec();
      await fill(await t.ensure(spec), 0x5a, 1024 * 1024, join(t.dir, 'secret'));
      const after = await readFile(spec.backing.path);
      t.image.fill(0x5a, 1024 * 1024, 1024 * 1024 + 65_536);
      expect(after.equals(t.image)).toBe(true);
    });

    it('does not write to a read-only export', async () => {
      const spec = await t.newSpec('tenant-a', true);
      await expect(fill(await t.ensure(spec), 0x5a, 0, join(t.dir, 'secret'))).rejects.toThrow('write protected');
      expect((await readFile(spec.backing.path)).equals(t.image)).toBe(true);
    });

    it('refuses a wrong secret, a wrong user, no CHAP and another initiator', async () => {
      const login = await t.ensure(await t.newSpec());
      const other = await t.ensure(await t.newSpec());
      const user = login.chap!.user;
      const refused = (change: Partial<Login>, status: number) =>
        expect(Initiator.login({ ...login, ...change })).rejects.toMatchObject({ status });
      await refused({ chap: { user, secret: 'not the secret at all' } }, LOGIN_REFUSED.auth);
      await refused({ chap: { user, secret: '' } }, LOGIN_REFUSED.auth);
      await refused({ chap: other.chap! }, LOGIN_REFUSED.auth);
      await refused({ chap: undefined }, LOGIN_REFUSED.auth);
      await refused({ initiator: `${login.initiator}0` }, LOGIN_REFUSED.notFound);
      // Name, user and secret of another export's initiator, from the same address.
      await refused({ initiator: other.initiator, chap: other.chap! }, LOGIN_REFUSED.notFound);
      await expect(libiscsi('iscsi-inq', { ...login, chap: { user, secret: 'wrong-secret-1' } })).rejects.toThrow(
        'Authentication',
      );
      await t.expectServed(login);
    });

    it('shows an initiator no target but its own', async () => {
      const [mine, other] = [await t.ensure(await t.newSpec()), await t.ensure(await t.newSpec())];
      const listed = await libiscsi('iscsi-ls', mine);
      expect(listed).toContain(mine.iqn);
      expect(listed).not.toContain(other.iqn);
    });
  });
}
