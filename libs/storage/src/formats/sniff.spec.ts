import { describe, expect, it } from 'vitest';
import { headBytes, sniff, tailBytes } from './sniff.js';

const nothing = Buffer.alloc(tailBytes);

function file(...parts: [at: number, bytes: string][]): Buffer {
  const head = Buffer.alloc(headBytes);
  for (const [at, bytes] of parts) head.write(bytes, at, 'latin1');
  return head;
}

const mbr: [number, string] = [510, '\x55\xaa'];

describe('sniff', () => {
  it.each([
    ['MBR', file(mbr)],
    ['GPT', file([512, 'EFI PART'], mbr)],
    ['GPT with 4 KiB sectors', file([4096, 'EFI PART'])],
    ['ext', file([1080, '\x53\xef'])],
    ['XFS', file([0, 'XFSB'])],
    ['btrfs', file([0x10040, '_BHRfS_M'])],
  ])('takes a raw file with %s for a disk', (sign, head) => {
    expect(sniff(head, nothing)).toEqual({ kind: 'disk', sign });
  });

  it('takes qcow2 for qcow2, even with a boot sector signature in it', () => {
    expect(sniff(file([0, 'QFI\xfb'], mbr), nothing)).toEqual({ kind: 'qcow2' });
  });

  it.each(['KDMV', 'COWD', '# Disk DescriptorFile\nversion=1'])('takes %j for VMDK', (start) => {
    expect(sniff(file([0, start], mbr), nothing)).toEqual({ kind: 'vmdk' });
  });

  it.each([
    ['VHDX', file([0, 'vhdxfile'])],
    ['VHD', file([0, 'conectix'])],
    ['VDI', file([0x40, '\x7f\x10\xda\xbe'], mbr)],
    ['QED', file([0, 'QED\0'])],
    ['LUKS', file([0, 'LUKS\xba\xbe'])],
    ['gzip', file([0, '\x1f\x8b\x08'])],
    ['xz', file([0, '\xfd7zXZ\0'])],
    ['zstd', file([0, '\x28\xb5\x2f\xfd'])],
    ['zip', file([0, 'PK\x03\x04'])],
    ['tar (or OVA)', file([0, 'image.ovf'], [257, 'ustar\0'])],
    ['ISO 9660', file([0x8001, 'CD001'])],
  ])('recognises %s and says what to do', (name, head) => {
    expect(sniff(head, nothing)).toMatchObject({ kind: 'other', name, remedy: expect.stringMatching(/\.$/) });
  });

  it('recognises a fixed VHD by its footer, though its start is a disk', () => {
    const tail = Buffer.alloc(tailBytes);
    tail.write('conectix');
    expect(sniff(file(mbr), tail)).toMatchObject({ kind: 'other', name: 'VHD' });
  });

  it.each([
    ['nothing', Buffer.alloc(0)],
    ['zeros', file()],
    ['text', Buffer.from('#!/bin/sh\necho hello\n')],
    ['a web page', Buffer.from('<!DOCTYPE html><title>Sign in</title>')],
  ])('does not take %s for a disk', (_, head) => {
    expect(sniff(head, nothing)).toEqual({ kind: 'unknown' });
  });
});
