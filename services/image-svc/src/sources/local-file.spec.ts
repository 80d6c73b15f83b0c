import { createHash, randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AllowedHosts } from './allowed-hosts.js';
import { fetchImage } from './source.js';
import type { FetchOptions } from './source.js';

let base: string;
const at = (name: string) => join(base, name);

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'm2-local-'));
  for (const name of ['images', 'images-private', 'secret']) await mkdir(at(name));
  for (const name of ['images/a.raw', 'images-private/b.raw', 'secret/c.raw']) await writeFile(at(name), name);
});
afterEach(() => rm(base, { recursive: true }));

async function fetch(path: string, options: FetchOptions & { maxBytes?: number } = {}) {
  return fetchImage(
    { kind: 'file', path },
    at('staged'),
    {
      directories: [at('images')],
      hosts: new AllowedHosts([]),
      maxBytes: options.maxBytes ?? 2 ** 30,
      download: { connectTimeoutMs: 1, stallTimeoutMs: 1, retries: 0 },
    },
    options,
  );
}

const staged = () =>
  stat(at('staged')).then(
    () => true,
    () => false,
  );

describe('an image from a local file', () => {
  it('is copied, with its size and hash', async () => {
    const bytes = Buffer.concat([
      randomBytes(3_000_001),
      Buffer.alloc(5_000_000),
      randomBytes(7),
      Buffer.alloc(100_000),
    ]);
    await writeFile(at('images/big.raw'), bytes);
    const done: number[] = [];
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    expect(
      await fetch(at('images/big.raw'), { sha256: sha256.toUpperCase(), onProgress: (now) => done.push(now) }),
    ).toEqual({ path: at('staged'), bytes: bytes.length, sha256 });
    expect((await readFile(at('staged'))).equals(bytes)).toBe(true);
    expect(done.at(-1)).toBe(bytes.length);
  });

  it('keeps holes', async () => {
    await writeFile(at('images/zeros.raw'), Buffer.alloc(4_000_000));
    await fetch(at('images/zeros.raw'));
    const { size, blocks } = await stat(at('staged'));
    expect(size).toBe(4_000_000);
    expect(blocks).toBe(0);
  });

  it('may be reached by a symbolic link that stays inside', async () => {
    await symlink(at('images/a.raw'), at('images/link.raw'));
    expect(await fetch(at('images/link.raw'))).toMatchObject({ bytes: 12 });
  });

  it('is refused outside the allowed directories, however it is written', async () => {
    await symlink(at('secret/c.raw'), at('images/link.raw'));
    await symlink(at('secret'), at('images/dir'));
    for (const path of [
      at('secret/c.raw'),
      at('images-private/b.raw'),
      `${at('images')}/../secret/c.raw`,
      at('images/link.raw'),
      at('images/dir/c.raw'),
      at('images'),
      at('secret/missing.raw'),
      `${at('images')}/../secret/missing.raw`,
      'images/a.raw',
      `${at('images/a.raw')}\0`,
      '/dev/zero',
      '/proc/self/environ',
    ]) {
      await expect(fetch(path)).rejects.toMatchObject({ code: 'image.source_forbidden' });
    }
    expect(await staged()).toBe(false);
  });

  it('that does not exist is unreachable', async () => {
    await expect(fetch(at('images/missing.raw'))).rejects.toMatchObject({ code: 'image.source_unreachable' });
    expect(await staged()).toBe(false);
  });

  it('with another checksum, or too large, leaves nothing', async () => {
    await expect(fetch(at('images/a.raw'), { sha256: '0'.repeat(64) })).rejects.toMatchObject({
      code: 'image.checksum_mismatch',
    });
    await expect(fetch(at('images/a.raw'), { maxBytes: 11 })).rejects.toMatchObject({ code: 'image.too_large' });
    const reason = new Error('cancelled');
    await expect(fetch(at('images/a.raw'), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(await staged()).toBe(false);
  });
});
