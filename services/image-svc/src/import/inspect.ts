import { open } from 'node:fs/promises';
import { runQemuImg } from '../backends/qemu-img.js';
import { ImageError } from './errors.js';
import { checkQcow2Header } from './qcow2-header.js';
import { headBytes, sniff, tailBytes } from './sniff.js';
import type { Sniffed } from './sniff.js';

export interface InspectOptions {
  /** The format that the user named. */
  declared?: 'raw' | 'qcow2' | undefined;
  /** A few kilobytes of qcow2 can claim exabytes. */
  maxVirtualBytes: number;
  signal?: AbortSignal | undefined;
}

export interface InspectedImage {
  format: 'raw' | 'qcow2';
  virtualSizeBytes: number;
}

/**
 * Says what an untrusted file is, and refuses it unless it is one self-contained disk image. `path` is absolute and
 * nobody else writes to it. Errors: `image.not_an_image`, `image.unsupported_format`, `image.format_mismatch`,
 * `image.has_backing_file`, `image.encrypted`, `image.too_large`.
 */
export async function inspectImage(path: string, options: InspectOptions): Promise<InspectedImage> {
  const { head, tail, size } = await readEnds(path);
  const sniffed = sniff(head, tail);
  if (sniffed.kind === 'other') {
    throw new ImageError('image.unsupported_format', `This is a ${sniffed.name} file. ${sniffed.remedy}`);
  }
  if (sniffed.kind === 'unknown') throw notAnImage(head, size);
  refuseMismatch(sniffed, options.declared);
  if (sniffed.kind === 'qcow2') {
    const virtualSizeBytes = checkQcow2Header(head, size, options.maxVirtualBytes);
    await confirmWithQemu(path, virtualSizeBytes, options.signal);
    return { format: 'qcow2', virtualSizeBytes };
  }
  if (size > options.maxVirtualBytes) {
    throw new ImageError(
      'image.too_large',
      `The image has ${size} bytes, allowed are ${options.maxVirtualBytes}. Shrink it, or ask the operator to raise the limit.`,
    );
  }
  return { format: 'raw', virtualSizeBytes: Math.ceil(size / 512) * 512 }; // as QEMU counts: in whole sectors
}

async function readEnds(path: string): Promise<{ head: Buffer; tail: Buffer; size: number }> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const read = async (length: number, position: number) => {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, position);
      return buffer.subarray(0, bytesRead);
    };
    return { head: await read(headBytes, 0), tail: await read(tailBytes, Math.max(0, size - tailBytes)), size };
  } finally {
    await file.close();
  }
}

function refuseMismatch(sniffed: Sniffed, declared: 'raw' | 'qcow2' | undefined): void {
  const found = sniffed.kind === 'qcow2' ? 'qcow2' : 'raw';
  if (declared === undefined || declared === found) return;
  throw new ImageError(
    'image.format_mismatch',
    `The file was said to be ${declared} and is ${found}. Name the right format, or leave it out.`,
  );
}

/** The parts of `qemu-img info --output=json` that count (QEMU, qapi/block-core, ImageInfo). */
interface QemuInfo {
  format?: string;
  'virtual-size'?: number;
  encrypted?: boolean;
  'backing-filename'?: string;
  'full-backing-filename'?: string;
  'format-specific'?: { data?: { 'data-file'?: string; corrupt?: boolean; encrypt?: unknown } };
}

/** The second opinion: QEMU reads the tables and header extensions that we do not, in a process with limits. */
async function confirmWithQemu(path: string, virtualSizeBytes: number, signal?: AbortSignal): Promise<void> {
  const { exitCode, stdout, stderr } = await runQemuImg(
    ['info', '--output=json', '-f', 'qcow2', '--', path],
    { addressSpace: 1 << 30, cpuSeconds: 10, fileSize: 0, deadlineMs: 60_000 },
    { signal },
  );
  if (exitCode !== 0) {
    const reason = stderr.trim().split('\n').at(-1) || 'reading it took too much time or memory';
    throw new ImageError(
      'image.not_an_image',
      `QEMU cannot read the image: ${reason}. Make it again, or upload it again.`,
    );
  }
  const info = JSON.parse(stdout) as QemuInfo;
  const details = info['format-specific']?.data;
  if (info['backing-filename'] ?? info['full-backing-filename'] ?? details?.['data-file']) {
    throw new ImageError(
      'image.has_backing_file',
      'The image depends on another file. Flatten it: qemu-img convert -O qcow2 IMAGE image.qcow2.',
    );
  }
  if (info.encrypted || details?.encrypt) {
    throw new ImageError('image.encrypted', 'The image is encrypted. Decrypt it with qemu-img convert.');
  }
  if (info.format !== 'qcow2' || info['virtual-size'] !== virtualSizeBytes || details?.corrupt) {
    throw new ImageError(
      'image.not_an_image',
      'The image is not what its header says. Make it again, or upload it again.',
    );
  }
}

function notAnImage(head: Buffer, size: number): ImageError {
  const start = head.subarray(0, 512).toString('utf8').trimStart();
  const what = size === 0 ? 'empty' : /^<(!doctype|html|\?xml)/i.test(start) ? 'a web page' : 'not a disk image';
  return new ImageError(
    'image.not_an_image',
    `The file is ${what}: it has no boot sector, partition table or known file system. Check the source; a raw or qcow2 disk is needed.`,
  );
}
