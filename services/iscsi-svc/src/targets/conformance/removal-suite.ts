import { readFileSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { LOGIN_REFUSED, type TargetFixture } from './fixture.js';
import { Initiator } from './initiator.js';

export function removalSuite(t: TargetFixture): void {
  describe('ensureNoExport and dropSessions', () => {
    it('cuts a live session, removes the export, and is content when there is none', async () => {
      const [spec, other] = [await t.newSpec(), await t.newSpec()];
      const [login, kept] = [await t.ensure(spec), await t.ensure(other)];
      const session = await t.logIn(login);
      await t.driver.ensureNoExport(spec.pool, spec.iqn);
      await vi.waitFor(() => expect(session.cut).toBe(true));
      await expect(Initiator.login(login)).rejects.toMatchObject({ status: LOGIN_REFUSED.notFound });
      await t.driver.ensureNoExport(spec.pool, spec.iqn);
      await t.driver.ensureNoExport('never-seen', spec.iqn);
      expect(await t.driver.observe()).toMatchObject([{ iqn: other.iqn }]);
      await t.expectServed(kept);
    });

    it('removes an export under I/O', async () => {
      const spec = await t.newSpec();
      const session = await t.logIn(await t.ensure(spec));
      const reading = (async () => {
        while ((await session.read(0, 512)).status === 0);
      })();
      const [ended] = await Promise.allSettled([reading, t.driver.ensureNoExport(spec.pool, spec.iqn)]);
      expect(ended).toMatchObject({ status: 'rejected', reason: { message: 'the target closed the connection' } });
      expect(await t.driver.observe()).toEqual([]);
    });

    it('removes an export whose initiator died with data on the way', async () => {
      const spec = await t.newSpec();
      const login = await t.ensure(spec);
      const session = await t.logIn(login);
      session.stall(64, 4096);
      // As much as TCP buffers: then the target waits for an acknowledgement that does not come.
      const queued = [-1, 0];
      await vi.waitFor(
        () => {
          queued.push(unsentBytes(login.portal.port));
          expect(queued.at(-1)).toBeGreaterThan(1_000_000);
          expect(queued.at(-1)).toBe(queued.at(-2));
        },
        { timeout: 20_000 },
      );
      await t.driver.ensureNoExport(spec.pool, spec.iqn);
      expect(await t.driver.observe()).toEqual([]);
    });

    it('drops sessions and keeps the export', async () => {
      const spec = await t.newSpec();
      const login = await t.ensure(spec);
      expect(await t.driver.dropSessions(spec.pool, spec.iqn)).toBe(0);
      const session = await t.logIn(login);
      expect(await t.driver.dropSessions(spec.pool, spec.iqn)).toBe(1);
      await vi.waitFor(() => expect(session.cut).toBe(true));
      expect(await t.driver.observe()).toMatchObject([{ iqn: spec.iqn, sessions: [] }]);
      expect(await t.driver.dropSessions(spec.pool, 'iqn.2024-01.org.m2:unknown')).toBe(0);
      expect(await t.driver.dropSessions('never-seen', spec.iqn)).toBe(0);
      await t.expectServed(login);
    });

    it('is not deceived by an initiator that writes into listings', async () => {
      const spec = await t.newSpec();
      const login = await t.ensure(spec);
      const alias = `x\n    LUN information:\n    ACL information:\nTarget 7: iqn.2024-01.org.m2:forged`;
      const session = await t.logIn({ ...login, alias });
      await t.driver.ensureExport(spec);
      await t.driver.ensureNoExport(spec.pool, spec.iqn);
      await vi.waitFor(() => expect(session.cut).toBe(true));
      expect(await t.driver.observe()).toEqual([]);
    });
  });
}

/** Bytes that wait on the connections of a local port (proc_net_tcp(5): local address, state, tx_queue, all hexadecimal). */
function unsentBytes(port: number): number {
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const lines = readFileSync('/proc/net/tcp', 'latin1')
    .split('\n')
    .map((line) => line.trim().split(/\s+/));
  return Math.max(0, ...lines.filter((f) => f[1]?.endsWith(local)).map((f) => Number.parseInt(f[4]!, 16)));
}
