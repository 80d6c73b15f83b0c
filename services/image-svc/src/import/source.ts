import { rm } from 'node:fs/promises';
import type { AllowedHosts } from './allowed-hosts.js';
import { download } from './download.js';
import type { DownloadLimits } from './download.js';
import { ImageError } from './errors.js';
import { copyLocalFile } from './local-file.js';
import { StagingFile } from './staging-file.js';

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
 * Fetches an image into the file `stagingPath`, which only we write: what is inspected is what is imported, whatever
 * happens to the source meanwhile. On any error the file is gone. Errors: `image.checksum_mismatch`, those of
 * `copyLocalFile` and `download`, and the reason of an aborted signal.
 */
export async function fetchImage(
  source: ImageSource,
  stagingPath: string,
  rules: SourceRules,
  { sha256: expected, onProgress, signal }: FetchOptions = {},
): Promise<FetchedImage> {
  const staging = await StagingFile.create(stagingPath, { maxBytes: rules.maxBytes, onProgress });
  try {
    if (source.kind === 'file') await copyLocalFile(source.path, rules.directories, staging, signal);
    else await download(source.url, rules.hosts, staging, rules.download, signal);
    const sha256 = await staging.finish();
    if (expected !== undefined && expected.toLowerCase() !== sha256) {
      throw new ImageError(
        'image.checksum_mismatch',
        `The file has SHA-256 ${sha256}, not ${expected}. Check the file and its checksum.`,
      );
    }
    return { path: stagingPath, bytes: staging.bytes, sha256 };
  } catch (error) {
    await rm(stagingPath, { force: true });
    throw error;
  } finally {
    await staging.close();
  }
}
