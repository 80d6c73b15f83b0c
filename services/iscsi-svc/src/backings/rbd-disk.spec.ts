import { describe, expect, it } from 'vitest';
import { daemonConf, diskName, rbdBlockdev, type RbdBacking } from './rbd-disk.js';

const disk: RbdBacking = { type: 'rbd', pool: 'm2-disks', namespace: 'a', image: 'm1img2', user: 'm2.a' };

describe('an RBD disk', () => {
  it('has a name of its own, whatever its parts are made of', () => {
    const others = [
      { ...disk, namespace: '' },
      { ...disk, namespace: 'a/m1img2', image: '' },
      { ...disk, namespace: '', image: 'a/m1img2' },
      { ...disk, pool: 'm2-disks/a', namespace: '' },
      { ...disk, image: '../../x' },
    ];
    const names = [disk, ...others].map((it) => diskName(it));
    expect(new Set(names).size).toBe(names.length);
    for (const name of names) expect(name).toMatch(/^[0-9a-f]{32}$/);
    expect(diskName({ ...disk, user: 'm2.other' })).toBe(diskName(disk));
  });

  it('is opened without a cache, and without a namespace where there is none', () => {
    expect(rbdBlockdev(disk, '/c', 'key')).toMatchObject({ namespace: 'a', user: 'm2.a', cache: { direct: true } });
    expect(rbdBlockdev({ ...disk, namespace: '' }, '/c', 'key')).not.toHaveProperty('namespace');
  });

  it('is not given up on while an OSD is away, whatever the site set', () => {
    const conf = daemonConf('[global]\nrados_osd_op_timeout = 30\n[client.m2.a]\nrados_osd_op_timeout = 30', 'm2.a');
    expect(conf.lastIndexOf('[client.m2.a]\nrados_osd_op_timeout = 0\n')).toBeGreaterThan(conf.lastIndexOf('= 30'));
  });
});
