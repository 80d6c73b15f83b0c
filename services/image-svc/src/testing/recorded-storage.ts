import {
  type BackingStore,
  type DiskVolume,
  type ForeignKey,
  type GoldenSource,
  type LongWork,
  type Origin,
  type RemovedVolume,
  type StorageBackend,
  StorageError,
  type StorageErrorCode,
  type VolumeInfo,
  type VolumeReader,
} from '@m2/storage';
import { statSync } from 'node:fs';

type Method =
  'golden' | 'clone' | 'tag' | 'untag' | 'size' | 'flat' | 'remove' | 'attach' | 'detach' | 'export' | 'free';

/** A volume in memory: what it was made from, and what was made from it. */
export type RecordedVolume = VolumeInfo & { origin: string | null };

const nameOf = (origin: Origin) => ('golden' in origin ? origin.golden : `${origin.disk.name}@${origin.tag}`);

/** Volumes in memory without content. They know their dependencies. A test may make a call fail or wait. */
export class RecordedStorage implements StorageBackend {
  readonly name = 'recorded';
  readonly calls: string[] = [];
  readonly volumes = new Map<string, RecordedVolume>();
  readonly foreign = new Map<string, number>();
  private readonly keys = new Map<string, string>();
  readonly attached = new Set<string>();
  /** `after`: it has done what it was asked for, and nobody learns of it. */
  failing: { method: Method; code: StorageErrorCode; after?: true } | undefined;
  /** Calls to a method wait for this promise. */
  readonly gates = new Map<Method, Promise<unknown>>();
  /** The last flattening, or export, tells again how far it is. */
  tellOfLongWork: () => void = () => {};
  private readonly freeing = new Map<string, RemovedVolume>();
  private tellRemoved: (volume: RemovedVolume) => void = () => {};
  private lost: (volumes: string[]) => void = () => {};

  async ensureGolden(golden: string, source: GoldenSource, { signal, onProgress }: LongWork = {}): Promise<VolumeInfo> {
    const sizeBytes = this.sizeOf(source);
    onProgress?.(sizeBytes / 2, sizeBytes);
    await this.begin('golden', golden, signal);
    const made = this.make(golden, { project: null, kind: 'golden', sizeBytes, origin: null });
    this.end('golden');
    return made;
  }

  async ensureClone(
    origin: Origin,
    { project, name }: DiskVolume,
    options: { sizeBytes?: number } = {},
  ): Promise<VolumeInfo> {
    await this.begin('clone', name);
    const sizeBytes = options.sizeBytes ?? this.sizeOf(origin);
    this.sizeOf(origin);
    const made = this.make(name, { project, kind: 'disk', sizeBytes, origin: nameOf(origin) });
    this.end('clone');
    return made;
  }

  async ensureTag(disk: DiskVolume, tag: string): Promise<void> {
    await this.begin('tag', `${disk.name}@${tag}`);
    const volume = this.volume(disk.name);
    if (!volume.tags.includes(tag)) volume.tags.push(tag);
    this.end('tag');
  }

  async ensureNoTag(disk: DiskVolume, tag: string): Promise<void> {
    await this.begin('untag', `${disk.name}@${tag}`);
    this.assertUnused(`${disk.name}@${tag}`);
    const volume = this.volumes.get(disk.name);
    if (volume) volume.tags = volume.tags.filter((one) => one !== tag);
    this.end('untag');
  }

  async ensureSize(disk: DiskVolume, sizeBytes: number): Promise<void> {
    await this.begin('size', disk.name);
    const volume = this.volume(disk.name);
    if (sizeBytes < volume.sizeBytes) throw new StorageError('storage.bad_size', `${disk.name} is larger`);
    volume.sizeBytes = sizeBytes;
    this.end('size');
  }

  async ensureFlat(disk: DiskVolume, { signal, onProgress }: LongWork = {}): Promise<void> {
    const volume = this.volume(disk.name);
    this.tellOfLongWork = () => onProgress?.(volume.sizeBytes / 2, volume.sizeBytes);
    this.tellOfLongWork();
    await this.begin('flat', disk.name, signal);
    volume.origin = null;
  }

  async ensureNoGolden(golden: string): Promise<void> {
    await this.begin('remove', golden);
    this.assertUnused(golden);
    this.volumes.delete(golden);
    this.end('remove');
  }

  async ensureNoDisk({ name }: DiskVolume): Promise<void> {
    await this.begin('remove', name);
    for (const tag of this.volumes.get(name)?.tags ?? []) this.assertUnused(`${name}@${tag}`);
    this.volumes.delete(name);
    this.end('remove');
  }

  async ensureAttached({ name }: DiskVolume): Promise<BackingStore> {
    await this.begin('attach', name);
    this.attached.add(name);
    this.end('attach');
    return { type: 'file', path: `/attached/${name}` };
  }

  async ensureDetached({ name }: DiskVolume): Promise<void> {
    await this.begin('detach', name);
    this.attached.delete(name);
    this.end('detach');
  }

  async openReader(): Promise<VolumeReader> {
    throw new StorageError('storage.unsupported', 'Nothing here has bytes');
  }

  async ensureNoForeign(foreign: string, key: string): Promise<void> {
    if (this.keys.get(foreign) === key) this.foreign.delete(foreign);
  }

  async copyToForeign(
    origin: Origin,
    foreign: string,
    { signal, onProgress, key }: LongWork & ForeignKey,
  ): Promise<void> {
    const sizeBytes = this.sizeOf(origin);
    this.tellOfLongWork = () => onProgress?.(sizeBytes / 2, sizeBytes);
    this.tellOfLongWork();
    await this.begin('export', foreign, signal);
    if (this.foreign.has(foreign) && this.keys.get(foreign) === key) return;
    if (this.foreign.has(foreign)) throw new StorageError('storage.exists_differently', `There is a ${foreign}`);
    this.foreign.set(foreign, sizeBytes);
    this.keys.set(foreign, key);
  }

  async removed(): Promise<RemovedVolume[]> {
    return [...this.freeing.values()];
  }

  onRemoved(listener: (volume: RemovedVolume) => void): void {
    this.tellRemoved = listener;
  }

  async ensureFreed({ id, name }: RemovedVolume, { signal, onProgress }: LongWork = {}): Promise<void> {
    onProgress?.(1, 2);
    await this.begin('free', name, signal);
    this.freeing.delete(id);
  }

  async ensureNoProject(project: string): Promise<void> {
    if ([...this.freeing.values()].some((volume) => volume.project === project))
      throw new StorageError('storage.in_use', `Project ${project} has volumes that are being freed`);
    this.calls.push(`forget ${project}`);
  }

  /** Leaves what has to be freed, as a storage does that cannot remove at once. */
  leave(volume: RemovedVolume): void {
    this.freeing.set(volume.id, volume);
    this.tellRemoved(volume);
  }

  async list(): Promise<VolumeInfo[]> {
    return [...this.volumes.values()].map(({ origin: _, ...info }) => info);
  }

  async health(): Promise<void> {}

  onAttachmentsLost(listener: (volumes: string[]) => void): void {
    this.lost = listener;
  }

  async close(): Promise<void> {}

  /** Reports that the process behind these volumes died, and that they are back. */
  lose(...volumes: string[]): void {
    this.lost(volumes);
  }

  /** Calls to a method wait until the returned function is called. */
  hold(method: Method): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.gates.set(method, promise);
    return () => {
      this.gates.delete(method);
      resolve();
    };
  }

  private sizeOf(source: GoldenSource): number {
    if ('path' in source) return statSync(source.path).size;
    if ('foreign' in source) {
      const size = this.foreign.get(source.foreign);
      if (size === undefined) throw new StorageError('storage.not_found', `There is no ${source.foreign}`);
      return size;
    }
    if ('golden' in source) return this.volume(source.golden).sizeBytes;
    const disk = this.volume(source.disk.name);
    if (!disk.tags.includes(source.tag)) throw new StorageError('storage.not_found', `There is no ${source.tag}`);
    return disk.sizeBytes;
  }

  private volume(name: string): RecordedVolume {
    const volume = this.volumes.get(name);
    if (!volume) throw new StorageError('storage.not_found', `There is no ${name}`);
    return volume;
  }

  private assertUnused(origin: string): void {
    const clones = [...this.volumes.values()].filter((volume) => volume.origin === origin);
    if (clones.length > 0) throw new StorageError('storage.in_use', `${clones[0]!.name} was cloned from ${origin}`);
  }

  private make(name: string, rest: Omit<RecordedVolume, 'name' | 'tags'>): VolumeInfo {
    const volume: RecordedVolume = this.volumes.get(name) ?? { name, tags: [], ...rest };
    this.volumes.set(name, volume);
    const { origin: _, ...info } = volume;
    return info;
  }

  private async begin(method: Method, volume: string, signal?: AbortSignal): Promise<void> {
    this.calls.push(`${method} ${volume}`);
    signal?.throwIfAborted();
    const aborted = Promise.withResolvers<never>();
    aborted.promise.catch(() => {});
    signal?.addEventListener('abort', () => aborted.reject(signal.reason));
    await Promise.race([this.gates.get(method), aborted.promise]);
    signal?.throwIfAborted();
    if (!this.failing?.after) this.fail(method);
  }

  private end(method: Method): void {
    if (this.failing?.after) this.fail(method);
  }

  private fail(method: Method): void {
    if (this.failing?.method !== method) return;
    const { code } = this.failing;
    this.failing = undefined;
    throw new StorageError(code, 'as the test says');
  }
}
