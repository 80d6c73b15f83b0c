import { open } from 'node:fs/promises';
import type { AllowedHosts } from './allowed-hosts.js';
import { download } from './download.js';
import type { DownloadLimits } from './download.js';
import { ImageError } from '@m2/storage';
import { copyLocalFile } from './local-file.js';
import { hashFile } from './hash-file.js';
import { discardStaged, StagingFile } from './staging-file.js';

/** Where an image comes from: a file of this machine, or an http or https URL. */
export type ImageSource = { kind: 'file'; path: string } | { kind: 'url'; url: string };

/** What the operator allows. */
export interface SourceRules {
  directories: readonly string[];
  hosts: AllowedHosts;
  maxBytes: number;
  download: DownloadLimits;
}

export interface FetchOptions {
  /** The SHA-256 that the file must have, in hexadecimal. */
  sha256?: string | undefined;
  onProgress?: ((done: number, total: number | undefined) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface FetchedImage {
  path: string;
  bytes: number;
  sha256: string;
}

/**
 * Fetches an image into the file `stagingPath`. Only this service writes to it, so what is inspected is what is imported, whatever happens
 * to the source. A download that was stopped (by `signal`, or with its process) goes on when the same image is fetched again; call
 * `discardFetched` to prevent that. After any other error the file is gone. Errors: `image.checksum_mismatch`, those of `copyLocalFile` and
 * `download`, and the reason of an aborted signal.
 */
export async function fetchImage(
  source: ImageSource,
  stagingPath: string,
  rules: SourceRules,
  { sha256: expected, onProgress, signal }: FetchOptions = {},
): Promise<FetchedImage> {
  const begin = source.kind === 'file' ? StagingFile.create : StagingFile.resume;
  const staging = await begin(stagingPath, { maxBytes: rules.maxBytes, onProgress, signal });
  try {
    if (source.kind === 'file') await copyLocalFile(source.path, rules.directories, staging, signal);
    else await download(source.url, rules.hosts, staging, rules.download, signal);
    const sha256 = await staging.finish();
    compare(sha256, expected);
    return { path: stagingPath, bytes: staging.bytes, sha256 };
  } catch (error) {
    if (!signal?.aborted || !staging.partOf) await discardStaged(stagingPath);
    throw error;
  } finally {
    await staging.close();
  }
}

/** Removes the file of `fetchImage`, finished or not. A file that is not there is fine. */
export const discardFetched = discardStaged;

/**
 * Uses an uploaded file in its place. Nobody writes to a finished upload, so it needs no copy, and it is still there when the import is
 * started again. Errors: `image.checksum_mismatch`, the signal's reason.
 */
export async function adoptUpload(
  path: string,
  { sha256: expected, onProgress, signal }: FetchOptions = {},
): Promise<FetchedImage> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const sha256 = (await hashFile(file, signal, (done) => onProgress?.(done, size))).digest('hex');
    compare(sha256, expected);
    return { path, bytes: size, sha256 };
  } finally {
    await file.close();
  }
}

function compare(sha256: string, expected: string | undefined): void {
  if (expected === undefined || expected.toLowerCase() === sha256) return;
  throw new ImageError(
    'image.checksum_mismatch',
    `The file has SHA-256 ${sha256}, not ${expected}. Check the file and its checksum.`,
  );
}
