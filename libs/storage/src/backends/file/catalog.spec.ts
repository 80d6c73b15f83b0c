import { describe, expect, it } from 'vitest';
import { Catalog } from './catalog.js';
import { VolumeFiles } from './volume-files.js';

const files = new VolumeFiles('/volumes');
const golden = files.golden('aimg1');
const names = (all: { path: string }[]) => all.map(({ path }) => path.replace('/volumes/', ''));
const only = (...all: { path: string }[]) => new Catalog(names(all), (name) => files.parse(name));
const of = (...all: { path: string }[]) => only(golden, ...all);

describe('what stands on what', () => {
  const disk = files.overlay('aimg2', 'aimg1', 2);
  const layers = [files.overlay('aimg2', 'aimg1', 0), files.overlay('aimg2', 'aimg1', 1)];
  const tag = files.tag('aimg2', 'old', 0);
  const clone = files.overlay('aimg3', 'aimg2-0', 0);

  it('the overlay with the greatest number is the disk, and stands on the others, and on its origin', () => {
    const catalog = of(disk, ...layers, tag, clone);
    expect(names(catalog.chain(catalog.disk('aimg2')!))).toEqual([
      'aimg2.aimg1.2.qcow2',
      'aimg2.aimg1.1.qcow2',
      'aimg2.aimg1.qcow2',
      'aimg1.golden.raw',
    ]);
    expect(names(catalog.chain(catalog.tagged('aimg2', 'old')!))).toEqual(['aimg2.aimg1.qcow2', 'aimg1.golden.raw']);
    expect(names(catalog.chain(clone))).toEqual(['aimg3.aimg2-0.qcow2', 'aimg2.aimg1.qcow2', 'aimg1.golden.raw']);
    expect(names(catalog.users('aimg1'))).toEqual(['aimg2.aimg1.2.qcow2']);
    expect(names(catalog.users('aimg2-0'))).toEqual(['aimg3.aimg2-0.qcow2']);
    expect(names(catalog.garbage('aimg2'))).toEqual([]);
    expect(catalog.nextNumber(disk)).toBe(3);
  });

  it('a raw layer takes the place of its overlay, and what only that stood on is garbage', () => {
    const catalog = of(disk, ...layers, files.layer('aimg2', 1));
    expect(names(catalog.chain(disk))).toEqual(['aimg2.aimg1.2.qcow2', 'aimg2.1.layer.raw']);
    expect(catalog.isFlat(disk)).toBe(true);
    expect(names(catalog.garbage('aimg2')).sort()).toEqual(['aimg2.aimg1.1.qcow2', 'aimg2.aimg1.qcow2']);
    expect(names(of(disk, files.layer('aimg2', 1)).users('aimg1'))).toEqual([]);
  });

  it('a tag below a raw layer keeps the origin in use', () => {
    const catalog = of(disk, ...layers, files.layer('aimg2', 1), tag);
    expect(names(catalog.garbage('aimg2'))).toEqual(['aimg2.aimg1.1.qcow2']);
    expect(names(catalog.users('aimg1'))).toEqual(['aimg2.aimg1.2.qcow2']);
    expect(names(catalog.chain(catalog.tagged('aimg2', 'old')!))).toEqual(['aimg2.aimg1.qcow2', 'aimg1.golden.raw']);
  });

  it('a reflinked disk stands on nothing, and needs its origin until it is flat; only tags keep its layers', () => {
    const raw = files.rawDisk('aimg2', 'aimg1');
    const kept = files.layer('aimg2', 2);
    const catalog = of(raw, files.layer('aimg2', 1), kept, files.tag('aimg2', 'kept', 2));
    expect(names(catalog.chain(raw))).toEqual(['aimg2.aimg1.raw']);
    expect(names(catalog.garbage('aimg2'))).toEqual(['aimg2.1.layer.raw']);
    expect(names(catalog.users('aimg1'))).toEqual(['aimg2.aimg1.raw']);
    expect(catalog.nextNumber(raw)).toBe(3);
    expect(of(files.rawDisk('aimg2', 'flat')).users('aimg1')).toEqual([]);
  });

  it('a disk that is being removed is none, and all of it is garbage, the mark of that last', () => {
    const catalog = of(files.gone('aimg2'), ...layers, tag);
    expect(catalog.disk('aimg2')).toBeUndefined();
    expect(catalog.users('aimg1')).toEqual([]);
    expect(names(catalog.garbage('aimg2')).at(-1)).toBe('aimg2.gone');
    expect(catalog.garbage('aimg2')).toHaveLength(4);
  });

  it('says what is missing', () => {
    expect(() => only(disk).chain(disk)).toThrow('aimg1');
  });
});
