import type { Operation } from '@m2/contracts';
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ImageServer, startImageServer } from '../image-server.js';
import { ended, type TestInstallation } from '../installation.js';
import { observe } from '../observed-state.js';

const run = promisify(execFile);
const mebibyte = 1024 * 1024;

const sends = (content: Buffer | string) => (response: ServerResponse) => {
  response.writeHead(200, { 'content-length': Buffer.byteLength(content) }).end(content);
};

/** The server hangs up in the middle, every time, also when the download is resumed. */
const breaksOff = (content: Buffer) => (response: ServerResponse) => {
  response.writeHead(200, { 'content-length': content.length });
  response.write(content.subarray(0, 64 * 1024), () => response.destroy());
};

const redirects = (location: string) => (response: ServerResponse) => void response.writeHead(302, { location }).end();

/** Random bytes (they cannot be stored sparsely) with the signature of a boot sector. */
function bootable(bytes: number): Buffer {
  const content = randomBytes(bytes);
  content.writeUInt16LE(0xaa55, 510);
  return content;
}

async function madeByQemu(...args: string[]): Promise<Buffer> {
  const dir = await mkdtemp(join(tmpdir(), 'm2-faults-image-'));
  try {
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', ...args, join(dir, 'image'), '1M']);
    return await readFile(join(dir, 'image'));
  } finally {
    await rm(dir, { recursive: true });
  }
}

interface Case {
  name: string;
  /** A path of the server, or a whole source. */
  source: string | { kind: 'file'; path: string } | { kind: 'url'; url: string };
  more?: { sha256?: string; format?: 'raw' | 'qcow2' };
  code: string;
}

const small = bootable(mebibyte);

const cases: Case[] = [
  { name: 'a text', source: '/text', code: 'image.not_an_image' },
  { name: 'a web page', source: '/html', code: 'image.not_an_image' },
  { name: 'nothing', source: '/empty', code: 'image.not_an_image' },
  { name: 'an archive', source: '/gzip', code: 'image.unsupported_format' },
  { name: 'a download that breaks off', source: '/truncated', code: 'image.truncated' },
  {
    name: 'another file than the checksum says',
    source: '/small',
    more: { sha256: createHash('sha256').update('another').digest('hex') },
    code: 'image.checksum_mismatch',
  },
  { name: 'another format than was said', source: '/small', more: { format: 'qcow2' }, code: 'image.format_mismatch' },
  { name: 'qcow2 with a backing file', source: '/backed', code: 'image.has_backing_file' },
  { name: 'qcow2 that ends in its header', source: '/beheaded', code: 'image.not_an_image' },
  { name: 'a page that is not there', source: '/nothing-here', code: 'image.source_unreachable' },
  { name: 'a redirect to the inside', source: '/inside', code: 'image.source_forbidden' },
  { name: 'a redirect to a file', source: '/file', code: 'image.source_forbidden' },
  {
    name: 'a host that is not allowed',
    source: { kind: 'url', url: 'http://169.254.169.254/latest/meta-data' },
    code: 'image.source_forbidden',
  },
  { name: 'a file elsewhere', source: { kind: 'file', path: '/etc/passwd' }, code: 'image.source_forbidden' },
  {
    name: 'a file elsewhere, by a way through the allowed folder',
    source: { kind: 'file', path: 'ALLOWED/../../../../../../etc/passwd' },
    code: 'image.source_forbidden',
  },
  { name: 'a device', source: { kind: 'file', path: '/dev/zero' }, code: 'image.source_forbidden' },
  {
    name: 'a file that is not there',
    source: { kind: 'file', path: 'ALLOWED/none' },
    code: 'image.source_unreachable',
  },
];

export function describeBadImages(installation: () => TestInstallation): void {
  describe('an import of', () => {
    let server: ImageServer;
    const files: Record<string, Buffer> = {};

    beforeAll(async () => {
      files['/backed'] = await madeByQemu('-b', '/etc/passwd', '-F', 'raw', '-u');
      files['/beheaded'] = (await madeByQemu()).subarray(0, 80);
      server = await startImageServer({
        '/text': sends('not a disk\n'.repeat(10_000)),
        '/html': sends('<!doctype html><html><title>404</title></html>'),
        '/empty': sends(''),
        '/gzip': sends(Buffer.concat([Buffer.from('1f8b0800', 'hex'), randomBytes(4096)])),
        '/truncated': breaksOff(bootable(mebibyte)),
        '/small': sends(small),
        '/backed': (response) => sends(files['/backed']!)(response),
        '/beheaded': (response) => sends(files['/beheaded']!)(response),
        '/large': sends(bootable(12 * mebibyte)),
        '/inside': redirects('http://169.254.169.254/latest/meta-data'),
        '/file': redirects('file:///etc/passwd'),
      });
    });
    afterAll(() => server?.close());

    const begin = (source: Case['source'], more: Case['more'] = {}, name = 'bad'): Promise<Operation> => {
      const { client, stage } = installation();
      const allowed = join(stage.image.path, '..');
      const given =
        typeof source === 'string'
          ? ({ kind: 'url', url: server.url(source) } as const)
          : 'path' in source
            ? { ...source, path: source.path.replace('ALLOWED', allowed) }
            : source;
      return client.call('imageImport', { params: { project: stage.project }, body: { name, source: given, ...more } });
    };

    /** How an import ended, and what it left. */
    const outcome = async (operation: Operation) => {
      const { state, error } = await ended(installation(), operation);
      const { images, staging, volumes } = await observe(installation());
      return { state, code: error?.code, detail: error?.detail, left: [...images, ...staging, ...volumes] };
    };
    /** Its name is free for the next one. */
    const refused = (code: string) => ({
      state: 'failed',
      code,
      detail: expect.stringMatching(/\w+ \w+ \w+/),
      left: [expect.objectContaining({ name: 'golden', state: 'ready' })],
    });

    it.each(cases)('$name: $code', async ({ source, more, code }) => {
      expect(await outcome(await begin(source, more))).toEqual(refused(code));
    });

    it('a second image of a name: image.exists', async () => {
      await expect(begin('/small', {}, 'golden')).rejects.toMatchObject({ code: 'image.exists' });
    });

    /** A file system of 8 MB over a directory of the storage: only root can mount one. */
    describe.skipIf(process.getuid?.() !== 0)('an image into a full file system (needs root to make one)', () => {
      it.each(['staging', 'volumes'])('%s: storage.full', async (directory) => {
        const path = join(installation().stage.state, 'storage', directory);
        await run('mount', ['-t', 'tmpfs', '-o', 'size=8m,mode=0700', 'tmpfs', path]);
        try {
          expect(await outcome(await begin('/large'))).toEqual(refused('storage.full'));
        } finally {
          await run('umount', ['--lazy', path]);
        }
      });
    });
  });
}
