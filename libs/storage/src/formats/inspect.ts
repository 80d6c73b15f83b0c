import type { imageFormats } from '@m2/contracts';
import { type FileHandle, open } from 'node:fs/promises';
import { runQemuImg } from '../qemu-img.js';
import { ImageError } from './errors.js';
import { checkQcow2Header } from './qcow2-header.js';
import { headBytes, sniff, tailBytes } from './sniff.js';
import type { Sniffed } from './sniff.js';
import { checkVmdk } from './vmdk.js';

export type ImageFormat = (typeof imageFormats)[number];

export interface InspectOptions {
  /** The format that the user named. */
  declared?: ImageFormat | undefined;
  /** A few kilobytes of qcow2 or vmdk can claim exabytes. */
  maxVirtualBytes: number;
  signal?: AbortSignal | undefined;
}

export interface InspectedImage {
  format: ImageFormat;
  virtualSizeBytes: number;
}

/**
 * Finds out what an untrusted file is, and refuses it unless it is one self-contained disk image. `path` is absolute and nobody else writes
 * to it. Errors: `image.not_an_image`, `image.unsupported_format`, `image.format_mismatch`, `image.has_backing_file`, `image.encrypted`,
 * `image.too_large`.
 */
export async function inspectImage(path: string, options: InspectOptions): Promise<InspectedImage> {
  const file = await open(path, 'r');
  let inspected: InspectedImage;
  try {
    inspected = await inspectFile(file, options);
  } finally {
    await file.close();
  }
  if (inspected.format !== 'raw') await confirmWithQemu(path, inspected, options.signal);
  return inspected;
}

async function inspectFile(file: FileHandle, { declared, maxVirtualBytes }: InspectOptions): Promise<InspectedImage> {
  const { size } = await file.stat();
  const read = async (length: number, position: number) => {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, position);
    return buffer.subarray(0, bytesRead);
  };
  const head = await read(headBytes, 0);
  const sniffed = sniff(head, await read(tailBytes, Math.max(0, size - tailBytes)));
  if (sniffed.kind === 'other') {
    throw new ImageError('image.unsupported_format', `This is a ${sniffed.name} file. ${sniffed.remedy}`);
  }
  if (sniffed.kind === 'unknown') throw notAnImage(head, size);
  const format = formatOf(sniffed);
  if (declared !== undefined && declared !== format) {
    throw new ImageError(
      'image.format_mismatch',
      `The file was declared as ${declared} and is ${format}. Name the right format, or leave it out.`,
    );
  }
  if (format === 'qcow2') return { format, virtualSizeBytes: checkQcow2Header(head, size, maxVirtualBytes) };
  if (format === 'vmdk') return { format, virtualSizeBytes: await checkVmdk(file, size, maxVirtualBytes) };
  if (size > maxVirtualBytes) {
    throw new ImageError(
      'image.too_large',
      `The image has ${size} bytes, allowed are ${maxVirtualBytes}. Shrink it, or ask the operator to raise the limit.`,
    );
  }
  return { format, virtualSizeBytes: Math.ceil(size / 512) * 512 }; // like QEMU: in whole sectors
}

function formatOf({ kind }: Extract<Sniffed, { kind: 'qcow2' | 'vmdk' | 'disk' }>): ImageFormat {
  return kind === 'disk' ? 'raw' : kind;
}

/** The fields of `qemu-img info --output=json` that are used (QEMU, qapi/block-core, ImageInfo). */
interface QemuInfo {
  format?: string;
  'virtual-size'?: number;
  encrypted?: boolean;
  'backing-filename'?: string;
  'full-backing-filename'?: string;
  'format-specific'?: {
    data?: {
      'data-file'?: string;
      corrupt?: boolean;
      encrypt?: unknown;
      /** For VMDK. */
      extents?: { filename?: string }[];
    };
  };
}

/** A second opinion: QEMU reads the tables and header extensions that we do not, in a process with limits. */
async function confirmWithQemu(
  path: string,
  { format, virtualSizeBytes }: InspectedImage,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { exitCode, stdout, stderr } = await runQemuImg(
    ['info', '--output=json', '-f', format, '--', path],
    { addressSpace: 1 << 30, cpuSeconds: 10, fileSize: 0, deadlineMs: 60_000 },
    { signal },
  );
  if (exitCode !== 0) {
    const reason = stderr.trim().split('\n').at(-1) || 'reading it took too much time or memory';
    throw new ImageError(
      'image.not_an_image',
      `QEMU cannot read the image: ${reason}. Create it again, or upload it again.`,
    );
  }
  const info = JSON.parse(stdout) as QemuInfo;
  const details = info['format-specific']?.data;
  const otherFile =
    info['backing-filename'] ??
    info['full-backing-filename'] ??
    details?.['data-file'] ??
    details?.extents?.find(({ filename }) => filename !== path);
  if (otherFile !== undefined) {
    throw new ImageError(
      'image.has_backing_file',
      'The image depends on another file. Flatten it: qemu-img convert -O qcow2 IMAGE image.qcow2.',
    );
  }
  if (info.encrypted || details?.encrypt) {
    throw new ImageError('image.encrypted', 'The image is encrypted. Decrypt it with qemu-img convert.');
  }
  if (info.format !== format || info['virtual-size'] !== virtualSizeBytes || details?.corrupt) {
    throw new ImageError(
      'image.not_an_image',
      'The image is not what its header says. Create it again, or upload it again.',
    );
  }
}

function notAnImage(head: Buffer, size: number): ImageError {
  const start = head.subarray(0, 512).toString('utf8').trimStart();
  const what = size === 0 ? 'empty' : /^<(!doctype|html|\?xml)/i.test(start) ? 'a web page' : 'not a disk image';
  return new ImageError(
    'image.not_an_image',
    `The file is ${what}: it has no boot sector, partition table or known file system. Check the source; a raw, qcow2 or vmdk disk is needed.`,
  );
}
