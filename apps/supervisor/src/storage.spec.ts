import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Storage } from './index.js';
import { type GivenSettings, planSettings, resolveSettings, savedSettings, type Settings } from './options.js';
import { serviceMains, serviceSpecs } from './services.js';
import { ensureState, type Paths } from './state.js';
import { plannedStorage } from './up.js';

type Given = NonNullable<GivenSettings['storage']>;
const ceph: Given = { kind: 'ceph' };
const cluster: Given = { kind: 'ceph', conf: '/etc/ceph/ceph.conf' };
const pools = { user: 'm2', imagePool: 'm2-images', diskPool: 'm2-disks' };

let parent: string;
let paths: Paths;
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'm2o-'));
  paths = ensureState(join(parent, 'state'));
});
afterEach(() => rmSync(parent, { recursive: true, force: true }));

/** As the first start leaves it. */
const startWith = (storage: Given | undefined) => {
  resolveSettings(paths, { storage });
  mkdirSync(join(paths.postgres, 'data'), { recursive: true });
};
const next = (storage: Given | undefined): Storage => resolveSettings(paths, { storage }).storage;

describe('the storage of an installation', () => {
  it('is files unless told otherwise', () => {
    expect(next(undefined)).toEqual({ kind: 'file' });
  });

  it.each([
    [ceph, { kind: 'ceph', ...pools }],
    [cluster, { kind: 'ceph', conf: '/etc/ceph/ceph.conf', ...pools }],
    [
      { kind: 'zfs', dataset: 'tank/m2' },
      { kind: 'zfs', dataset: 'tank/m2' },
    ],
  ] satisfies [Given, Storage][])('%j is remembered for the next start', (given, expected) => {
    startWith(given);
    expect(next(undefined)).toEqual(expected);
    expect(next(given)).toEqual(expected);
    expect(savedSettings(paths).storage).toEqual(expected);
  });

  it('can be chosen anew until there is a database', () => {
    resolveSettings(paths, { storage: ceph });
    expect(next({ kind: 'file' })).toEqual({ kind: 'file' });
  });

  it.each([
    [undefined, ceph, 'are in files, not in the pools m2-images and m2-disks of its own Ceph cluster'],
    [ceph, { kind: 'file' }, 'of its own Ceph cluster, not in files'],
    [ceph, cluster, 'of its own Ceph cluster, not in the pools m2-images and m2-disks of a Ceph cluster'],
    [cluster, { ...cluster, diskPool: 'fast' }, 'not in the pools m2-images and fast'],
    [{ kind: 'zfs', dataset: 'tank/a' }, { kind: 'zfs', dataset: 'tank/b' }, 'not in the ZFS dataset tank/b'],
  ] satisfies [Given | undefined, Given, string][])('is not changed from %j to %j', (first, second, why) => {
    startWith(first);
    const { storage } = savedSettings(paths);
    expect(() => next(second)).toThrow(why);
    expect(() => next(second)).toThrow(
      expect.objectContaining({ code: 'supervisor.bad_option', remedy: expect.stringContaining('--state') as string }),
    );
    expect(savedSettings(paths).storage).toEqual(storage);
  });

  it('can be reached in another way', () => {
    startWith(cluster);
    const moved = { ...cluster, conf: '/srv/ceph.conf', user: 'other' };
    expect(next(moved)).toMatchObject({ conf: '/srv/ceph.conf', user: 'other' });
  });

  it.each([
    { kind: 'ceph', conf: 'ceph.conf' },
    { kind: 'ceph', user: '--help' },
    { kind: 'ceph', imagePool: 'a/b' },
    { kind: 'zfs', dataset: '/tank' },
    { kind: 'zfs', dataset: 'tank/../m2 -r' },
    { kind: 'nfs' },
  ])('%j is refused', (storage) => {
    expect(() => next(storage as Given)).toThrow(expect.objectContaining({ code: 'supervisor.bad_option' }));
  });

  it('is known before the start, and not remembered by asking', () => {
    expect(plannedStorage({ state: paths.state, storage: ceph })).toEqual({
      storage: { kind: 'ceph', ...pools },
      ownCeph: join(paths.state, 'ceph'),
    });
    expect(plannedStorage({ state: paths.state }).storage).toEqual({ kind: 'file' });
  });
});

describe('image-svc and iscsi-svc', () => {
  const told = (storage: Given) => {
    const settings: Settings = planSettings(paths, { storage }).resolved;
    const specs = serviceSpecs(paths, settings, serviceMains, {});
    const [image, iscsi, other] = (['image', 'iscsi', 'boot'] as const).map((name) =>
      Object.fromEntries(Object.entries(specs[name].env).filter(([key]) => /^M2_(STORAGE$|CEPH|RBD|ZFS)/.test(key))),
    );
    expect(iscsi).toEqual(image);
    expect(other).toEqual({});
    return image;
  };

  it('are told where disks are', () => {
    expect(told({ kind: 'file' })).toEqual({ M2_STORAGE: 'file' });
    expect(told({ kind: 'zfs', dataset: 'tank/m2' })).toEqual({ M2_STORAGE: 'zfs', M2_ZFS_DATASET: 'tank/m2' });
    expect(told(ceph)).toEqual({
      M2_STORAGE: 'rbd',
      M2_CEPH_CONF: join(paths.state, 'ceph/ceph.conf'),
      M2_CEPH_USER: 'm2',
      M2_RBD_IMAGE_POOL: 'm2-images',
      M2_RBD_DISK_POOL: 'm2-disks',
    });
    expect(told({ ...cluster, user: 'svc' })).toMatchObject({
      M2_CEPH_CONF: '/etc/ceph/ceph.conf',
      M2_CEPH_USER: 'svc',
    });
  });
});
