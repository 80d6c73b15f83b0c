import { describe, expect, it } from 'vitest';
import { checkVmdkDescriptor } from './vmdk-descriptor.js';

const descriptor = (lines: string) => Buffer.from(`# Disk DescriptorFile\nversion=1\nCID=fffffffe\n${lines}\0`);
const good = 'parentCID=ffffffff\ncreateType="monolithicSparse"\n\n# Extent description\nRW 2048 SPARSE "disk.vmdk"\n';

describe('checkVmdkDescriptor', () => {
  it('takes a disk of one file, with the line ends of any system', () => {
    for (const text of [
      good,
      good.replaceAll('\n', '\r\n'),
      good.replace('monolithicSparse', 'streamOptimized').replace('RW', 'RDONLY'),
      `${good}\n#DDB\nddb.adapterType = "ide"\nchangeTrackPath="disk-ctk.vmdk"\n`,
    ]) {
      expect(() => checkVmdkDescriptor(descriptor(text))).not.toThrow();
    }
  });

  it('refuses one of several extents, which has no text', () => {
    expect(() => checkVmdkDescriptor(Buffer.alloc(20 * 512))).toThrow(
      expect.objectContaining({ code: 'image.has_backing_file' }),
    );
  });

  it.each([
    ['a parent', 'image.has_backing_file', `${good}parentFileNameHint="/etc/shadow"\n`],
    ['a parent in a comment, which QEMU opens', 'image.has_backing_file', `${good}# parentFileNameHint="/etc/shadow"`],
    ['a parent behind the end of the text', 'image.has_backing_file', `${good}\0parentFileNameHint="/etc/shadow"`],
    ['the identifier of a parent', 'image.has_backing_file', good.replace('=ffffffff', '=1234abcd')],
    ['two identifiers of parents', 'image.has_backing_file', `${good}parentCID=00000001\n`],
    ['an extent elsewhere', 'image.has_backing_file', good.replace('disk.vmdk', '/etc/shadow')],
    ['an extent in its directory', 'image.has_backing_file', good.replace('disk.vmdk', '..\\\\x')],
    ['a flat extent', 'image.has_backing_file', good.replace('SPARSE "disk.vmdk"', 'FLAT "shadow" 0')],
    ['two extents', 'image.has_backing_file', `${good}RW 2048 SPARSE "disk-2.vmdk"\n`],
    ['an extent of zeros', 'image.has_backing_file', `${good}RW 2048 ZERO\n`],
    ['a kind of several files', 'image.unsupported_format', good.replace('monolithicSparse', 'twoGbMaxExtentSparse')],
    ['two kinds', 'image.not_an_image', `${good}createType="monolithicFlat"\n`],
    ['no extent', 'image.not_an_image', good.replace('RW', '# RW')],
    ['nothing', 'image.not_an_image', ''],
  ])('refuses %s', (_, code, text) => {
    expect(() => checkVmdkDescriptor(descriptor(text))).toThrow(expect.objectContaining({ code }));
  });
});
