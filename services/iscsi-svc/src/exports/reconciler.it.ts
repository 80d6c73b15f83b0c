import { diskReattached, exportCreate, exportDelete } from '@m2/contracts';
import { publishEvent, until } from '@m2/service-kit/testing';
import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { openIscsi, type TestIscsi } from '../testing/iscsi.js';
import { OrphanWatch } from './orphan-watch.js';

let iscsi: TestIscsi;
beforeAll(async () => {
  iscsi = await openIscsi();
});
afterAll(() => iscsi?.close());
afterEach(() => void vi.restoreAllMocks());

const exported = async () => {
  const request = iscsi.request();
  const { iqn } = await iscsi.tell(exportCreate, request);
  return { ...request, iqn };
};
const restored = async ({ exportId }: { exportId: string }) =>
  (await iscsi.events(exportId)).filter((type) => type === 'iscsi.export.restored').length;
/** Two whole rounds from now: whatever the first one was in the middle of, the second sees everything of now. */
const rounds = async () => {
  const seen = () => iscsi.targets.calls.filter((call) => call === 'pools').length;
  const before = seen();
  await until('it was reconciled', () => seen() >= before + 3);
};

describe('reconciling', () => {
  it('leaves what is right alone', async () => {
    const target = await exported();
    const before = iscsi.targets.calls.filter((call) => call !== 'pools').length;
    await rounds();
    expect(iscsi.targets.calls.filter((call) => call !== 'pools')).toHaveLength(before);
    expect(await restored(target)).toBe(0);
  });

  it('puts back a target that is missing, with the secret that it had', async () => {
    const target = await exported();
    const { chap } = iscsi.targets.specs.get(target.iqn)!;
    iscsi.targets.specs.delete(target.iqn);
    await until('it is back', () => iscsi.targets.specs.has(target.iqn));
    expect(iscsi.targets.specs.get(target.iqn)!.chap).toEqual(chap);
    await until('it is told of', async () => (await restored(target)) > 0);
    await rounds();
    expect(await restored(target)).toBe(1);
  });

  it.each([
    ['its backing file', { backing: { type: 'file' as const, path: '/elsewhere' } }],
    ['its initiator', { initiator: 'iqn.2018-10.io.m2:stranger' }],
    ['its account', { chap: { user: 'stranger', secret: 'x' } }],
  ])('repairs a target of which somebody changed %s', async (_what, change) => {
    const target = await exported();
    const right = iscsi.targets.specs.get(target.iqn)!;
    iscsi.targets.specs.set(target.iqn, { ...right, ...change });
    await until('it is right again', async () => (await restored(target)) > 0);
    expect(iscsi.targets.specs.get(target.iqn)).toEqual(right);
  });

  it('goes on with the others when one cannot be put back, and tries that one again', async () => {
    const [one, two] = [await exported(), await exported()];
    iscsi.targets.failing = { method: 'ensure', code: 'target.no_backing' };
    for (const { iqn } of [one, two]) iscsi.targets.specs.delete(iqn);
    await until('both are back', () => [one, two].every(({ iqn }) => iscsi.targets.specs.has(iqn)));
    await until('both are told of', async () => (await restored(one)) === 1 && (await restored(two)) === 1);
    expect(iscsi.targets.failing).toBeUndefined();
  });

  it('removes a target of ours that nothing explains, but only when it has stayed for a while', async () => {
    const orphan = {
      pool: randomUUID(),
      iqn: 'iqn.2018-10.io.m2:m1img9001',
      backing: { type: 'file' as const, path: '/x' },
      initiator: 'i',
      chap: { user: 'u', secret: 's' },
    };
    const stranger = { ...orphan, iqn: 'iqn.2001-04.com.example:storage' };
    iscsi.targets.specs.set(orphan.iqn, orphan).set(stranger.iqn, stranger);
    await rounds();
    expect(iscsi.targets.specs.has(orphan.iqn)).toBe(true);
    vi.spyOn(OrphanWatch.prototype, 'now').mockImplementation(() => performance.now() + 121_000);
    await until('it is gone', () => !iscsi.targets.specs.has(orphan.iqn));
    await rounds();
    expect(iscsi.targets.specs.has(stranger.iqn)).toBe(true);
    iscsi.targets.specs.delete(stranger.iqn);
  });

  it('does not take a target that is just being made for an orphan, nor one that came to be explained', async () => {
    const request = iscsi.request();
    const opened = Promise.withResolvers<void>();
    iscsi.targets.made = () => opened.promise;
    const making = iscsi.tell(exportCreate, request);
    const iqn = `iqn.2018-10.io.m2:${request.volume}`;
    await until('the target is there, and its row says "creating"', () => iscsi.targets.specs.has(iqn));
    await rounds();
    vi.spyOn(OrphanWatch.prototype, 'now').mockImplementation(() => performance.now() + 121_000);
    await rounds();
    expect(iscsi.targets.specs.has(iqn)).toBe(true);
    vi.restoreAllMocks();
    iscsi.targets.made = async () => {};
    opened.resolve();
    await expect(making).resolves.toMatchObject({ state: 'ready' });
  });
});

describe('a tgtd that dies', () => {
  it('gets its exports back, and those of other tenants are not touched', async () => {
    const [mine, also, other] = [await exported(), iscsi.request(), await exported()];
    await iscsi.tell(exportCreate, { ...also, project: mine.project });
    const before = iscsi.targets.calls.filter((call) => call.endsWith(other.iqn)).length;
    iscsi.targets.die(mine.project);
    await until(
      'both are back',
      () => [...iscsi.targets.specs.values()].filter(({ pool }) => pool === mine.project).length === 2,
    );
    expect(iscsi.targets.calls.filter((call) => call.endsWith(other.iqn))).toHaveLength(before);
  });

  it('does not bring back what is deleted meanwhile', async () => {
    const target = await exported();
    iscsi.targets.made = async ({ iqn }) => {
      // Deleted between the look at the row and the target's return.
      if (iqn !== target.iqn) return;
      iscsi.targets.made = async () => {};
      await iscsi.tell(exportDelete, { exportId: target.exportId, project: target.project });
      iscsi.targets.specs.set(iqn, { pool: target.project } as never);
    };
    iscsi.targets.die(target.project);
    await until(
      'it came back and went',
      () => iscsi.targets.calls.filter((call) => call === `remove ${target.iqn}`).length >= 2,
    );
    await until('it is gone', () => !iscsi.targets.specs.has(target.iqn));
    expect(await restored(target)).toBe(0);
  });

  it('does not keep what it brought back for an export that is still being deleted', async () => {
    const target = await exported();
    const { exportId, project } = target;
    iscsi.targets.made = async ({ iqn }) => {
      if (iqn !== target.iqn) return;
      iscsi.targets.made = async () => {};
      iscsi.targets.failing = { method: 'remove', code: 'target.busy' };
      await expect(iscsi.tell(exportDelete, { exportId, project })).rejects.toMatchObject({ code: 'target.busy' });
    };
    iscsi.targets.die(project);
    await until('it came back', () => iscsi.targets.calls.filter((call) => call === `ensure ${target.iqn}`).length > 1);
    await until('it is gone', () => !iscsi.targets.specs.has(target.iqn));
    expect(await restored(target)).toBe(0);
    await iscsi.tell(exportDelete, { exportId, project });
  });
});

describe('a disk whose path was lost and is back', () => {
  it('is opened again by its target', async () => {
    const target = await exported();
    const before = iscsi.targets.calls.filter((call) => call === `ensure ${target.iqn}`).length;
    const { disk: id, project } = target;
    await publishEvent(iscsi.kit.bus, diskReattached, { id, project, name: 'web-1' });
    await until(
      'it was told to',
      () => iscsi.targets.calls.filter((call) => call === `ensure ${target.iqn}`).length > before,
    );
    expect(iscsi.targets.calls).not.toContain(`remove ${target.iqn}`);
  });
});
