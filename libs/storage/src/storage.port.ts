/**
 * The storage port: what image-svc needs from a storage backend. Backends are in `backends/`, one folder each, and every one passes
 * `storage.conformance.ts`.
 *
 * Every `ensure…` looks before it acts, so a repeated or resumed call ends in the same state.
 */

/** What iscsi-svc gives to its target. */
export type BackingStore =
  { type: 'file'; path: string } | { type: 'rbd'; pool: string; namespace: string; image: string; user: string };

/** A disk's volume. A backend that can separate projects does so (RBD: a namespace and a cephx user each); the others use the name only. */
export interface DiskVolume {
  project: string;
  name: string;
}

/** What can be cloned and copied because nobody writes to it: a golden volume, or a tag of a disk. */
export type Origin = { golden: string } | { disk: DiskVolume; tag: string };

/** What can be read: an origin, or a disk that nobody has attached. */
export type Readable = Origin | { disk: DiskVolume };

/**
 * What a golden volume is made from: a local file in an explicit format (its content is never probed for a format again), an origin in this
 * storage, or a volume in this storage that M2 does not own, under the storage's own name.
 */
export type GoldenSource = { path: string; format: 'raw' | 'qcow2' | 'vmdk' } | Origin | { foreign: string };

/** `golden` is read-only and cloned from, `disk` is writable, `partial` was left by an interrupted call. */
export type VolumeKind = 'golden' | 'disk' | 'partial';

export interface VolumeInfo {
  name: string;
  /** Set for disks, where the backend separates projects. */
  project: string | null;
  kind: VolumeKind;
  sizeBytes: number;
  /** Set for disks. */
  tags: string[];
}

/** Options of work that takes longer the more bytes there are. */
export interface LongWork {
  /** Called with bytes of the volume's size, never fewer than before. */
  onProgress?(done: number, total: number): void;
  /** An aborted call rejects with the signal's reason and leaves nothing new behind. */
  signal?: AbortSignal;
}

/** `data: false`: reads as zeros. Offsets and lengths are bytes. */
export interface Extent {
  offset: number;
  length: number;
  data: boolean;
}

export interface VolumeReader {
  readonly sizeBytes: number;
  /**
   * In order and without overlap. Without `since`: the extents with data; everything else is zeros. With a tag of the same disk that is not
   * newer than what is read: at least everything that differs from it; `data: false` is what became zeros. Error `storage.not_found`: there
   * is no such tag.
   */
  extents(since?: string): AsyncIterable<Extent>;
  /** Exactly `length` bytes; `offset + length` must be within the volume. */
  read(offset: number, length: number): Promise<Buffer>;
  close(): Promise<void>;
}

/** A volume that was removed, and whose data still takes space. */
export interface RemovedVolume {
  name: string;
  /** Set for disks, where the backend separates projects. */
  project: string | null;
  /** The storage's own identifier of it: it has no name any more. */
  id: string;
}

/** Every call refuses what is not a volume name or tag with `storage.bad_name`. */
export interface ForeignKey {
  /** A UUID. A call with the same key goes on where an earlier one died, or finds that it was done. */
  key: string;
}

export interface StorageBackend {
  readonly name: string;

  /**
   * Creates a golden volume, which depends on no other volume. It is complete and durable, or absent. Errors: `storage.full`,
   * `storage.bad_source`, `storage.not_found`, `storage.exists_differently`, `storage.unsupported` (foreign volumes), and the reason of an
   * aborted signal.
   */
  ensureGolden(golden: string, source: GoldenSource, options?: LongWork): Promise<VolumeInfo>;

  /**
   * Creates a copy-on-write clone; `sizeBytes` (a multiple of 512, at least the origin's) makes it larger. A disk that was made flat since
   * is accepted as the clone, because its origin is not known any more. Errors: `storage.not_found`, `storage.bad_size`, `storage.full`,
   * `storage.exists_differently`.
   */
  ensureClone(origin: Origin, disk: DiskVolume, options?: { sizeBytes?: number }): Promise<VolumeInfo>;

  /**
   * Keeps the content of a disk at one moment, in an instant, also while a node writes to it (to the node's file system it is a power cut
   * at that moment). A tag is `[a-z0-9]{1,40}`. Error `storage.not_found`.
   */
  ensureTag(disk: DiskVolume, tag: string): Promise<void>;

  /** Removes a tag. It is fine when the tag, or its disk, does not exist. Error `storage.in_use`: it has clones that are not flat. */
  ensureNoTag(disk: DiskVolume, tag: string): Promise<void>;

  /**
   * Makes a disk larger that nobody has attached; its tags keep their size. Errors: `storage.not_found`, `storage.bad_size` (smaller, or
   * not a multiple of 512), `storage.in_use`.
   */
  ensureSize(disk: DiskVolume, sizeBytes: number): Promise<void>;

  /**
   * Makes a disk independent of its origin. Tags that it had may still depend on the origin and keep it in use. After an interruption the
   * disk is still a clone, and complete. Errors: `storage.not_found`, `storage.full`; `storage.in_use` where the backend cannot do that
   * while the disk is attached.
   */
  ensureFlat(disk: DiskVolume, options?: LongWork): Promise<void>;

  /**
   * Removes a golden volume and what an interrupted call left of it, at once, whatever its size. Where freeing its space takes longer, the
   * volume is one of `removed` from here on. Error `storage.in_use`: it has clones that are not flat. */
  ensureNoGolden(golden: string): Promise<void>;

  /** Removes a disk, its tags and what an interrupted call left of it, as `ensureNoGolden` does. Error `storage.in_use`: its tags have clones, or it is open. */
  ensureNoDisk(disk: DiskVolume): Promise<void>;

  /**
   * Makes a disk available to an iSCSI target, read-write. The same disk gets the same place each time (until `ensureFlat`, which may move
   * it). Error `storage.not_found`.
   */
  ensureAttached(disk: DiskVolume): Promise<BackingStore>;

  /** Undoes `ensureAttached`. The target must have closed the disk before: open files on it fail from here on. */
  ensureDetached(disk: DiskVolume): Promise<void>;

  /** Opens something for reading. Errors: `storage.not_found`; `storage.in_use` where an attached disk cannot be read. */
  openReader(readable: Readable): Promise<VolumeReader>;

  /**
   * Writes a flat copy as a volume of this storage that M2 does not own. Errors: `storage.exists_differently` (the name is taken),
   * `storage.full`, `storage.unsupported`.
   */
  copyToForeign(origin: Origin, foreign: string, options: LongWork & ForeignKey): Promise<void>;

  /** Removes what `copyToForeign` created under this key, complete or not. What others made stays. */
  ensureNoForeign(foreign: string, key: string): Promise<void>;

  /** Volumes that `ensureFreed` has to free; none where the storage frees space by itself. */
  removed(): Promise<RemovedVolume[]>;

  /** Called for each volume that was removed and is to be freed. What others remove, and what was left by a crash, is in `removed` only. */
  onRemoved(listener: (volume: RemovedVolume) => void): void;

  /**
   * Frees the space of a removed volume, which may take hours; progress is in the storage's own units. After an interruption, or an abort, the
   * next call goes on. One that is gone is fine. Error `storage.in_use`: somebody still has it open, or cloned a tag at the last moment.
   */
  ensureFreed(volume: RemovedVolume, options?: LongWork): Promise<void>;

  /** Removes what the storage keeps for a project beside its volumes. Error `storage.in_use`: it still has volumes, or some to be freed. */
  ensureNoProject(project: string): Promise<void>;

  /** All volumes of M2, partial ones included. */
  list(): Promise<VolumeInfo[]>;

  /** Does real I/O under a deadline; rejects with what is wrong. */
  health(): Promise<void>;

  /**
   * The process behind attached volumes died. They are attached again at the same paths, but whoever had them open must open them again.
   * Writes that were not flushed are gone: to the node it was a power cut of its disk.
   */
  onAttachmentsLost(listener: (disks: string[]) => void): void;

  /** Closes the storage. Attached volumes stay attached and are found by the next backend object. */
  close(): Promise<void>;
}

export type StorageErrorCode =
  | 'storage.bad_name'
  | 'storage.bad_size'
  | 'storage.bad_source'
  | 'storage.exists_differently'
  | 'storage.full'
  | 'storage.in_use'
  | 'storage.misconfigured'
  | 'storage.not_found'
  | 'storage.read_only'
  | 'storage.timeout'
  | 'storage.too_many_attached'
  | 'storage.unavailable'
  | 'storage.unsupported';

/** The one error type of all backends: a stable code, and a sentence that ends with what to do. */
export class StorageError extends Error {
  override readonly name = 'StorageError';

  constructor(
    readonly code: StorageErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

const volumeName = /^[a-z0-9]{1,32}img[0-9]{1,12}$/;

/** Refuses what is not `<uid>img<n>`: names become file names and command arguments. Error `storage.bad_name`. */
export function assertVolumeName(volume: string): void {
  if (!volumeName.test(volume)) {
    throw new StorageError('storage.bad_name', `${JSON.stringify(volume)} is not a volume name. Use <uid>img<n>.`);
  }
}

/** Refuses what is not a tag. Error `storage.bad_name`. */
export function assertTag(tag: string): void {
  if (!/^[a-z0-9]{1,40}$/.test(tag)) {
    throw new StorageError('storage.bad_name', `${JSON.stringify(tag)} is not a tag. Use [a-z0-9]{1,40}.`);
  }
}

/** Turns an error of a system call into the port's error; `doing` names the action, e.g. "clone a1img2". */
export function asStorageError(error: unknown, doing: string): StorageError {
  if (error instanceof StorageError) return error;
  const reason = error instanceof Error ? error.message : String(error);
  const code = (error as { code?: unknown } | null)?.code;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new StorageError(
      'storage.full',
      `No space left to ${doing}. Free space or enlarge the storage, then retry.`,
      {
        cause: error,
      },
    );
  }
  return new StorageError('storage.unavailable', `Could not ${doing}: ${reason}. Check the storage, then retry.`, {
    cause: error,
  });
}
