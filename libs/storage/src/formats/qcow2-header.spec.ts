import { array, assert, integer, property, tuple } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ImageError } from './errors.js';
import { checkQcow2Header, qcow2HeaderBytes } from './qcow2-header.js';

const fileBytes = 2 ** 20;
const max = 2 ** 41;

/** A valid version 3 header of a 1 GiB disk; `edit` makes it invalid. */
function header(edit: (head: Buffer) => void = () => {}): Buffer {
  const head = Buffer.alloc(qcow2HeaderBytes);
  head.write('QFI\xfb', 'latin1');
  head.writeUInt32BE(3, 4);
  head.writeUInt32BE(16, 20);
  head.writeBigUInt64BE(2n ** 30n, 24);
  head.writeUInt32BE(2, 36);
  head.writeBigUInt64BE(0x30000n, 40);
  head.writeBigUInt64BE(0x10000n, 48);
  head.writeUInt32BE(1, 56);
  head.writeUInt32BE(4, 96);
  head.writeUInt32BE(104, 100);
  edit(head);
  return head;
}

describe('checkQcow2Header', () => {
  it('answers the virtual size of a good image', () => {
    expect(checkQcow2Header(header(), fileBytes, max)).toBe(2 ** 30);
    const zstdAndSubclusters = header((head) => head.writeBigUInt64BE(8n | 16n, 72));
    expect(checkQcow2Header(zstdAndSubclusters, fileBytes, max)).toBe(2 ** 30);
    const version2 = header((head) => head.writeUInt32BE(2, 4)).subarray(0, 72);
    expect(checkQcow2Header(version2, fileBytes, max)).toBe(2 ** 30);
  });

  it.each<[string, string, (head: Buffer) => void]>([
    ['a backing file', 'image.has_backing_file', (head) => head.writeBigUInt64BE(0x200n, 8)],
    ['a backing file name without an offset', 'image.has_backing_file', (head) => head.writeUInt32BE(11, 16)],
    ['an external data file', 'image.has_backing_file', (head) => head.writeBigUInt64BE(4n, 72)],
    ['AES encryption', 'image.encrypted', (head) => head.writeUInt32BE(1, 32)],
    ['LUKS encryption', 'image.encrypted', (head) => head.writeUInt32BE(2, 32)],
    ['exabytes of disk', 'image.too_large', (head) => head.writeBigUInt64BE(2n ** 63n, 24)],
    ['one byte more than allowed', 'image.too_large', (head) => head.writeBigUInt64BE(2n ** 41n + 1n, 24)],
    ['no disk at all', 'image.not_an_image', (head) => head.writeBigUInt64BE(0n, 24)],
    ['version 1', 'image.unsupported_format', (head) => head.writeUInt32BE(1, 4)],
    ['an unknown feature', 'image.unsupported_format', (head) => head.writeBigUInt64BE(1n << 40n, 72)],
    ['the dirty bit', 'image.not_an_image', (head) => head.writeBigUInt64BE(1n, 72)],
    ['the corrupt bit', 'image.not_an_image', (head) => head.writeBigUInt64BE(2n, 72)],
    ['clusters of 2^63 bytes', 'image.not_an_image', (head) => head.writeUInt32BE(63, 20)],
    ['a huge L1 table', 'image.not_an_image', (head) => head.writeUInt32BE(0xffffffff, 36)],
    ['an L1 table outside the file', 'image.not_an_image', (head) => head.writeBigUInt64BE(2n ** 64n - 8n, 40)],
    ['a huge refcount table', 'image.not_an_image', (head) => head.writeUInt32BE(0xffffffff, 56)],
    ['a refcount table outside the file', 'image.not_an_image', (head) => head.writeBigUInt64BE(2n ** 40n, 48)],
    ['a billion snapshots', 'image.not_an_image', (head) => head.writeUInt32BE(1e9, 60)],
  ])('refuses %s', (_, code, edit) => {
    expect(() => checkQcow2Header(header(edit), fileBytes, max)).toThrow(expect.objectContaining({ code }));
  });

  it('refuses what is cut off', () => {
    for (const bytes of [4, 71, 72, 103]) {
      expect(() => checkQcow2Header(header().subarray(0, bytes), bytes, max)).toThrow(ImageError);
    }
  });

  it('whatever bytes are changed: refuses with our error, or the image is self-contained and within the limit', () => {
    const changes = array(tuple(integer({ min: 4, max: qcow2HeaderBytes - 1 }), integer({ min: 0, max: 255 })), {
      minLength: 1,
      maxLength: 4,
    });
    assert(
      property(changes, (edits) => {
        const head = header((bytes) => edits.forEach(([at, value]) => bytes.writeUInt8(value, at)));
        try {
          const size = checkQcow2Header(head, fileBytes, max);
          return (
            size <= max &&
            head.readBigUInt64BE(8) === 0n &&
            head.readUInt32BE(32) === 0 &&
            (head[7] === 2 || (head[79]! & 7) === 0)
          );
        } catch (error) {
          return error instanceof ImageError;
        }
      }),
      { numRuns: 2000 },
    );
  });
});
