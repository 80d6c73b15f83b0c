import { describe, expect, it } from 'vitest';
import { exitCodes } from '../exit-codes.js';
import { ids, samples } from '../test/gateway.js';
import { start } from '../test/setup.js';

const finding = {
  kind: 'volume_without_owner',
  volume: 'm1img3',
  tag: null as string | null,
  project: ids.project as string | null,
  explanation: 'No image and no disk has it.',
  repair: 'It is removed.' as string | null,
  firstSeenAt: '2026-11-22T10:00:00.000Z',
  repairableAt: '2999-01-01T00:00:00.000Z' as string | null,
};

describe('m2 fsck', () => {
  it('explains what it found, and ends badly when there is something', async () => {
    const { gateway, person } = await start();
    const undecided = {
      ...finding,
      kind: 'volume_missing',
      tag: 'v1',
      project: null,
      repair: null,
      repairableAt: null,
    };
    gateway.on('GET /v1/storage/check', () => ({ items: [finding, undecided] }));
    for (const args of [[], ['--dry-run']]) {
      const { code, out, err } = await person.m2(['fsck', ...args]);
      expect([code, err]).toEqual([exitCodes.failed, 'Repair what can be: m2 fsck --repair\n']);
      expect(out).toContain('volume without owner: m1img3\n  No image and no disk has it.\n');
      expect(out).toContain('repair: It is removed., not before 2999-01-01T00:00:00.000Z\n');
      expect(out).toContain('volume missing: m1img3@v1\n');
      expect(out).toContain('repair: a person has to decide\n');
    }
    const { code, out } = await person.m2(['fsck', '--json']);
    expect([code, JSON.parse(out)]).toEqual([exitCodes.failed, { items: [undecided, finding] }]);
    expect(gateway.seen.every(({ method }) => method === 'GET')).toBe(true);
  });

  it('repairs what it may, and ends well when nothing is left', async () => {
    const { gateway, person } = await start();
    gateway.on(
      'POST /v1/storage/repair',
      () => ({ repaired: [finding], left: [] }),
      () => ({ repaired: [], left: [finding] }),
      () => ({ repaired: [], left: [] }),
    );
    expect(await person.m2(['fsck', '--repair'])).toMatchObject({
      code: 0,
      out: 'repaired: volume without owner: m1img3\n',
    });
    expect((await person.m2(['fsck', '--repair'])).code).toBe(exitCodes.failed);
    expect(await person.m2(['fsck', '--repair'])).toMatchObject({ code: 0, out: 'Nothing is wrong.\n' });
    expect((await person.m2(['fsck', '--repair', '--dry-run'])).code).toBe(exitCodes.usage);
  });
});

describe('m2 quota', () => {
  it('shows what is used, and of how much', async () => {
    const { gateway, person } = await start();
    gateway.on('GET /v1/projects/lab/quota', () => samples.quota);
    const { out } = await person.m2(['quota', 'show']);
    expect(out).toMatch(/^bytes +2 GiB +1 TiB$/m);
    expect(out).toMatch(/^images +1 +none$/m);
  });

  it('changes the limits that are named, and keeps the others', async () => {
    const { gateway, person } = await start();
    const line = 'PUT /v1/projects/lab/quota';
    gateway.on('GET /v1/projects/lab/quota', () => samples.quota).on(line, () => samples.quota);
    expect((await person.m2(['quota', 'set', '--bytes', 'none', '--images', '0'])).code).toBe(0);
    expect(gateway.asked(line)[0]?.body).toEqual({ bytes: null, disks: 10, images: 0 });
    for (const args of [[], ['--disks', '-1'], ['--disks', '1.5'], ['--bytes', 'many']])
      expect([args, (await person.m2(['quota', 'set', ...args])).code]).toEqual([args, exitCodes.usage]);
    expect(gateway.asked(line)).toHaveLength(1);
  });
});

describe('m2 storage freeing', () => {
  it('shows what is being freed, how far that is, and what waits', async () => {
    const { gateway, person } = await start();
    const progress = { phase: 'free', done: 1, total: 3 };
    gateway.on('GET /v1/storage/freeing', () => ({
      items: [
        { id: '1a', volume: 'm1img3', project: ids.project, progress },
        { id: '1b', volume: 'm1img4', project: null, progress: null },
      ],
    }));
    const { code, out } = await person.m2(['storage', 'freeing']);
    expect(code).toBe(0);
    expect(out).toMatch(new RegExp(`^m1img3 +1a +${ids.project} +33%$`, 'm'));
    expect(out).toMatch(/^m1img4 +1b +.*waits$/m);
  });
});
