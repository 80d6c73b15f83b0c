import { array, assert, integer, property, tuple } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ImageError } from './errors.js';
import { checkVmdkHeader, footerBytes } from './vmdk-header.js';

const fileBytes = 2 ** 20;
const max = 2 ** 41;
const nothing = Buffer.alloc(footerBytes);

/** A valid header of a 1 GiB disk with grains of 64 KiB; `edit` makes it invalid. */
function header(edit: (head: Buffer) => void = () => {}): Buffer {
  const head = Buffer.alloc(512);
  head.write('KDMV', 'latin1');
  head.writeUInt32LE(1, 4);
  head.writeUInt32LE(3, 8);
  head.writeBigUInt64LE(2n ** 21n, 12);
  head.writeBigUInt64LE(128n, 20);
  head.writeBigUInt64LE(1n, 28);
  head.writeBigUInt64LE(20n, 36);
  head.writeUInt32LE(512, 44);
  head.writeBigUInt64LE(21n, 48);
  head.writeBigUInt64LE(26n, 56);
  head.writeBigUInt64LE(128n, 64);
  head.write('\n \r\n', 73, 'latin1');
  edit(head);
  return head;
}

/** The end of a stream that began with `head`. */
function footer(edit: (footer: Buffer) => void = () => {}): Buffer {
  const tail = Buffer.alloc(footerBytes);
  tail.writeBigUInt64LE(1n, 0);
  tail.writeUInt32LE(3, 12);
  header(edit).copy(tail, 512);
  return tail;
}
const streamed = header((head) => head.writeBigUInt64LE(2n ** 64n - 1n, 56));

describe('checkVmdkHeader', () => {
  it('answers where the grain directory of a good image is', () => {
    const extent = { virtualBytes: 2 ** 30, directoryAt: 26 * 512, tables: 32 };
    expect(checkVmdkHeader(header(), nothing, fileBytes, max)).toEqual(extent);
    const compressed = header((head) => {
      head.writeUInt32LE(0x30003, 8);
      head.writeUInt16LE(1, 77);
    });
    expect(checkVmdkHeader(compressed, nothing, fileBytes, max)).toEqual(extent);
  });

  it('takes the footer of a stream', () => {
    const tail = footer((end) => end.writeBigUInt64LE(100n, 56));
    expect(checkVmdkHeader(streamed, tail, fileBytes, max)).toMatchObject({ directoryAt: 100 * 512 });
  });

  it.each<[string, string, (head: Buffer) => void]>([
    ['COWD', 'image.unsupported_format', (head) => head.write('COWD')],
    ['a text that names other files', 'image.has_backing_file', (head) => head.write('# Disk DescriptorFile')],
    ['a header that sends QEMU to such a text', 'image.has_backing_file', (head) => head.writeBigUInt64LE(0n, 12)],
    ['one piece of several', 'image.has_backing_file', (head) => head.writeBigUInt64LE(0n, 28)],
    ['a descriptor elsewhere', 'image.not_an_image', (head) => head.writeBigUInt64LE(2n, 28)],
    ['a descriptor that QEMU reads in part', 'image.not_an_image', (head) => head.writeBigUInt64LE(21n, 36)],
    ['exabytes of disk', 'image.too_large', (head) => head.writeBigUInt64LE(2n ** 62n, 12)],
    ['one sector more than allowed', 'image.too_large', (head) => head.writeBigUInt64LE(2n ** 32n + 1n, 12)],
    ['version 4', 'image.unsupported_format', (head) => head.writeUInt32LE(4, 4)],
    ['another compression', 'image.unsupported_format', (head) => head.writeUInt16LE(2, 77)],
    ['compression that its flags deny', 'image.unsupported_format', (head) => head.writeUInt16LE(1, 77)],
    ['line ends of another system', 'image.not_an_image', (head) => head.write('\n \n\n', 73)],
    ['grains of a gigabyte', 'image.not_an_image', (head) => head.writeBigUInt64LE(2n ** 21n, 20)],
    ['grains of no power of two', 'image.not_an_image', (head) => head.writeBigUInt64LE(100n, 20)],
    ['no grains', 'image.not_an_image', (head) => head.writeBigUInt64LE(0n, 20)],
    ['grain tables without entries', 'image.not_an_image', (head) => head.writeUInt32LE(0, 44)],
    ['a directory outside the file', 'image.not_an_image', (head) => head.writeBigUInt64LE(2048n, 56)],
    ['a directory that wraps around', 'image.not_an_image', (head) => head.writeBigUInt64LE(2n ** 55n, 56)],
    ['a directory in the header', 'image.not_an_image', (head) => head.writeBigUInt64LE(0n, 56)],
    ['a second directory outside the file', 'image.not_an_image', (head) => head.writeBigUInt64LE(2n ** 40n, 48)],
    ['metadata longer than the file', 'image.not_an_image', (head) => head.writeBigUInt64LE(4096n, 64)],
  ])('refuses %s', (_, code, edit) => {
    expect(() => checkVmdkHeader(header(edit), nothing, fileBytes, max)).toThrow(expect.objectContaining({ code }));
  });

  it.each<[string, Buffer, number]>([
    ['without an end', nothing, fileBytes],
    ['with no whole sectors', footer(), fileBytes + 1],
    ['whose footer has no directory either', footer((end) => end.writeBigUInt64LE(2n ** 64n - 1n, 56)), fileBytes],
    ['whose footer tells of another disk', footer((end) => end.writeBigUInt64LE(2n ** 20n, 12)), fileBytes],
    ['whose footer has a directory outside', footer((end) => end.writeBigUInt64LE(2n ** 30n, 56)), fileBytes],
  ])('refuses a stream %s', (_, tail, size) => {
    expect(() => checkVmdkHeader(streamed, tail, size, max)).toThrow(
      expect.objectContaining({ code: 'image.not_an_image' }),
    );
  });

  it('whatever bytes are changed: refuses with our error, or all that it tells lies in the file and the limit', () => {
    const changes = array(tuple(integer({ min: 0, max: 79 }), integer({ min: 0, max: 255 })), {
      minLength: 1,
      maxLength: 4,
    });
    assert(
      property(changes, (edits) => {
        const head = header((bytes) => edits.forEach(([at, value]) => bytes.writeUInt8(value, at)));
        try {
          const extent = checkVmdkHeader(head, footer(), fileBytes, max);
          return extent.virtualBytes <= max && extent.directoryAt + extent.tables * 4 <= fileBytes;
        } catch (error) {
          return error instanceof ImageError;
        }
      }),
      { numRuns: 2000 },
    );
  });
});
