import type { Image, StoredSource } from '@m2/contracts';
import { type Kit, KIT } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ImageConfig } from '../config.js';
import { AllowedHosts } from '../sources/allowed-hosts.js';
import { inspectImage } from '@m2/storage';
import { adoptUpload, discardFetched, fetchImage, type SourceRules } from '../sources/source.js';

const downloadLimits = { connectTimeoutMs: 15_000, stallTimeoutMs: 60_000, retries: 5 };

/** A file that only this service writes to, and that was inspected. */
export interface Staged {
  path: string;
  format: NonNullable<Image['format']>;
  /** The size that a node sees. */
  sizeBytes: number;
  sha256: string;
}

interface Wanted {
  format: Image['format'];
  sha256: string | null;
}

interface Work {
  signal: AbortSignal;
  /** The total is not always known. */
  onProgress(done: number, total: number | undefined): void;
}

/** Where image files are inspected before they go into the storage. One file per import, named after the image's identifier. */
@Injectable()
export class Staging {
  private readonly directory: string;

  constructor(@Inject(KIT) private readonly kit: Kit<ImageConfig>) {
    this.directory = join(kit.config.storageDirectory, 'staging');
  }

  async open(): Promise<void> {
    await mkdir(this.directory, { recursive: true, mode: 0o700 });
  }

  /** Errors: those of `fetchImage` and `inspectImage`. */
  async fetch(
    id: string,
    source: Extract<StoredSource, { kind: 'file' | 'url' }>,
    wanted: Wanted,
    { signal, onProgress }: Work,
  ): Promise<Staged> {
    const path = this.path(id);
    const options = { sha256: wanted.sha256 ?? undefined, signal, onProgress };
    const { sha256 } = await fetchImage(source, path, this.rules(), options);
    return this.inspect(path, sha256, wanted, signal);
  }

  /** Inspects a finished upload in its place. Errors: `image.checksum_mismatch`, those of `inspectImage`. */
  async adopt(upload: string, wanted: Wanted, { signal, onProgress }: Work): Promise<Staged> {
    const { sha256 } = await adoptUpload(upload, { sha256: wanted.sha256 ?? undefined, signal, onProgress });
    return this.inspect(upload, sha256, wanted, signal);
  }

  async remove(id: string): Promise<void> {
    await discardFetched(this.path(id));
  }

  private path(id: string): string {
    return join(this.directory, id);
  }

  private async inspect(path: string, sha256: string, wanted: Wanted, signal?: AbortSignal): Promise<Staged> {
    const { format, virtualSizeBytes: sizeBytes } = await inspectImage(path, {
      declared: wanted.format ?? undefined,
      maxVirtualBytes: this.kit.config.maxImageBytes,
      signal,
    });
    return { path, format, sizeBytes, sha256 };
  }

  private rules(): SourceRules {
    const { importDirectories, importHosts, maxImageBytes } = this.kit.config;
    return {
      directories: importDirectories,
      hosts: new AllowedHosts(importHosts),
      maxBytes: maxImageBytes,
      download: downloadLimits,
    };
  }
}
