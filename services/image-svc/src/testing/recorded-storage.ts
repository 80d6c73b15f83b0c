import {
  type BackingStore,
  type GoldenSource,
  type ImportOptions,
  type StorageBackend,
  StorageError,
  type StorageErrorCode,
  type VolumeInfo,
} from '../backends/storage.port.js';
import { statSync } from 'node:fs';

type Method = 'golden' | 'clone' | 'remove' | 'attach' | 'detach';

/** Volumes in memory. A test may make a call fail, or wait. */
export class RecordedStorage implements StorageBackend {
  readonly name = 'recorded';
  readonly calls: string[] = [];
  readonly volumes = new Map<string, VolumeInfo>();
  readonly attached = new Set<string>();
  failing: { method: Method; code: StorageErrorCode } | undefined;
  /** Calls to a method wait for this. */
  readonly gates = new Map<Method, Promise<unknown>>();
  private lost: (volumes: string[]) => void = () => {};

  async ensureGolden(
    volume: string,
    source: GoldenSource,
    { signal, onProgress }: ImportOptions = {},
  ): Promise<VolumeInfo> {
    const sizeBytes = statSync(source.path).size;
    onProgress?.(sizeBytes / 2, sizeBytes);
    await this.begin('golden', volume, signal);
    return this.make(volume, 'golden', sizeBytes);
  }

  async ensureClone(golden: string, volume: string, options: { sizeBytes?: number } = {}): Promise<VolumeInfo> {
    await this.begin('clone', volume);
    const source = this.volumes.get(golden);
    if (!source) throw new StorageError('storage.not_found', `There is no ${golden}`);
    return this.make(volume, 'clone', options.sizeBytes ?? source.sizeBytes);
  }

  async ensureNoVolume(volume: string): Promise<void> {
    await this.begin('remove', volume);
    this.volumes.delete(volume);
  }

  async ensureAttached(volume: string): Promise<BackingStore> {
    await this.begin('attach', volume);
    this.attached.add(volume);
    return { type: 'file', path: `/attached/${volume}` };
  }

  async ensureDetached(volume: string): Promise<void> {
    await this.begin('detach', volume);
    this.attached.delete(volume);
  }

  async list(): Promise<VolumeInfo[]> {
    return [...this.volumes.values()];
  }

  async health(): Promise<void> {}

  onAttachmentsLost(listener: (volumes: string[]) => void): void {
    this.lost = listener;
  }

  async close(): Promise<void> {}

  /** The process behind these volumes died, and they are back. */
  lose(...volumes: string[]): void {
    this.lost(volumes);
  }

  /** Calls to a method wait until the function that this answers is called. */
  hold(method: Method): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.gates.set(method, promise);
    return () => {
      this.gates.delete(method);
      resolve();
    };
  }

  private make(name: string, kind: 'golden' | 'clone', sizeBytes: number): VolumeInfo {
    const volume = { name, kind, sizeBytes, allocatedBytes: 0 };
    this.volumes.set(name, volume);
    return volume;
  }

  private async begin(method: Method, volume: string, signal?: AbortSignal): Promise<void> {
    this.calls.push(`${method} ${volume}`);
    const aborted = Promise.withResolvers<never>();
    aborted.promise.catch(() => {});
    signal?.addEventListener('abort', () => aborted.reject(signal.reason));
    await Promise.race([this.gates.get(method), aborted.promise]);
    signal?.throwIfAborted();
    if (this.failing?.method !== method) return;
    const { code } = this.failing;
    this.failing = undefined;
    throw new StorageError(code, 'as the test says');
  }
}
