import { describe, expect, it, vi } from 'vitest';
import type { TargetFixture } from './fixture.js';
import { Initiator } from './initiator.js';
import { libiscsi } from './tools.js';

export function survivalSuite(t: TargetFixture): void {
  describe('hostile commands', () => {
    it('survives a READ of no blocks', async () => {
      const [mine, other] = [await t.ensure(await t.newSpec()), await t.ensure(await t.newSpec())];
      const serving = t.harness.processOf('tenant-a');
      const hostile = await t.logIn(mine);
      expect(await hostile.read(0, 0)).toEqual({ status: 0, data: Buffer.alloc(0) });
      expect((await hostile.read(0xff_ff_ff_ff, 0)).status).not.toBe(0);
      await t.expectServed(other);
      expect(t.harness.processOf('tenant-a')).toBe(serving);
    });

    it.each(['Read10', 'Read16', 'Write10', 'Write16', 'Verify10', 'Unmap', 'WriteSame10', 'Prefetch10', 'OrWrite'])(
      'survives %s of no blocks, from libiscsi',
      async (command) => {
        const [mine, other] = [await t.ensure(await t.newSpec()), await t.ensure(await t.newSpec())];
        const serving = t.harness.processOf('tenant-a');
        // Its verdict does not matter here, only that it ran.
        const report = await libiscsi('iscsi-test-cu', mine, ['--dataloss', '-n', '-t', `ALL.${command}.ZeroBlocks`]);
        expect(report).toMatch(/tests +1 +1 /);
        await t.expectServed(other);
        expect(t.harness.processOf('tenant-a')).toBe(serving);
      },
    );
  });

  describe('processes', () => {
    it('never serves two pools by one', async () => {
      await Promise.all([t.ensure(await t.newSpec('tenant-a')), t.ensure(await t.newSpec('tenant-b'))]);
      expect(t.harness.processOf('tenant-a')).not.toBe(t.harness.processOf('tenant-b'));
    });

    it('keeps one pool alive when the other one dies', async () => {
      const [a, b] = [await t.ensure(await t.newSpec('tenant-a')), await t.ensure(await t.newSpec('tenant-b'))];
      const session = await t.logIn(b);
      await t.crash('tenant-a');
      await expect(Initiator.login(a)).rejects.toThrow(/refused/i);
      expect((await session.read(0, 1)).status).toBe(0);
    });

    it('says when one died and puts the exports back on the same portal', async () => {
      const [spec, other] = [await t.newSpec(), await t.newSpec()];
      const [login, otherLogin] = [await t.ensure(spec), await t.ensure(other)];
      await t.crash(spec.pool);
      expect(await t.driver.observe()).toEqual([]);
      t.wanted.add(spec.pool);
      await t.driver.ensureNoExport(other.pool, other.iqn);
      expect(await t.ensure(spec)).toEqual(login);
      await t.expectServed(login);
      await expect(Initiator.login(otherLogin)).rejects.toThrow('refused');
    });

    it.each([
      { died: 'while the service ran', before: 'put back and removed', restart: false, back: true },
      { died: 'with the service', before: 'put back and removed', restart: true, back: true },
      { died: 'with the service', before: 'removed', restart: true, back: false },
    ])('that died $died keeps its portal when another export is $before first', async ({ restart, back }) => {
      const [spec, other] = [await t.newSpec(), await t.newSpec()];
      const login = await t.ensure(spec);
      await t.ensure(other);
      if (restart) await t.restartService({ killed: spec.pool });
      else await t.crash(spec.pool);
      t.wanted.add(spec.pool);
      if (back) await t.ensure(other);
      await t.driver.ensureNoExport(other.pool, other.iqn);
      expect(await t.ensure(spec)).toEqual(login);
      await t.expectServed(login);
      // With the last one it ends.
      t.wanted.delete(spec.pool);
      await t.driver.ensureNoExport(spec.pool, spec.iqn);
      expect(t.driver.pools()).not.toContain(spec.pool);
    });

    it('ends one that hangs, and says so', async () => {
      const spec = await t.newSpec();
      const login = await t.ensure(spec);
      const lost = vi.fn<(pool: string) => void>();
      t.driver.onInstanceLost(lost);
      process.kill(t.harness.processOf(spec.pool), 'SIGSTOP');
      await expect(t.driver.ensureExport(spec)).rejects.toMatchObject({ code: 'target.unreachable' });
      await vi.waitFor(() => expect(lost.mock.calls).toEqual([[spec.pool]]));
      expect(await t.ensure(spec)).toEqual(login);
      await t.expectServed(login);
    });

    it('outlives the service, which takes over what runs', async () => {
      const spec = await t.newSpec();
      const login = await t.ensure(spec);
      const serving = t.harness.processOf(spec.pool);
      const session = await t.logIn(login);
      const before = await t.driver.observe();
      await t.restartService();
      expect((await session.read(0, 1)).status).toBe(0);
      expect(await t.driver.observe()).toEqual(before);
      expect(await t.ensure(spec)).toEqual(login);
      expect(t.harness.processOf(spec.pool)).toBe(serving);
      expect((await session.read(0, 1)).status).toBe(0);
      await t.expectServed(login);
      await t.crash(spec.pool);
      expect(await t.ensure(spec)).toEqual(login);
      await t.driver.ensureNoExport(spec.pool, spec.iqn);
      expect(await t.driver.observe()).toEqual([]);
    });

    it('removes an export whose process is gone', async () => {
      const spec = await t.newSpec();
      const login = await t.ensure(spec);
      await t.crash(spec.pool);
      await t.driver.ensureNoExport(spec.pool, spec.iqn);
      expect(await t.driver.observe()).toEqual([]);
      await expect(Initiator.login(login)).rejects.toThrow(/refused/i);
    });
  });
}
