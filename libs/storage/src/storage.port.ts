/**
 * The storage port: what image-svc asks of whatever keeps its volumes. One folder beside this file per backend; every
 * backend passes `storage.conformance.ts`.
 *
 * Every `ensure…` looks before it acts, so a repeated or resumed operation ends in the same state.
 */

/** What iscsi-svc hands to its target. */
export type BackingStore =
  { type: 'file'; path: string } | { type: 'rbd'; pool: string; namespace: string; image: string; user: string };

/** A disk's volume. Storage that can keep projects apart does (RBD: a namespace and a cephx user each); other storage reads the name only. */
export interface DiskVolume {
  project: string;
  name: string;
}

/** What can be cloned and copied, because nobody writes to it: a golden volume, or a disk as it was when it was tagged. */
export type Origin = { golden: string } | { disk: DiskVolume; tag: string };

/** What can be read: an origin, or a disk as it is now, which nobody must have attached. */
export type Readable = Origin | { disk: DiskVolume };

/**
 * What a golden volume is made from: a local file in an explicit format (nothing ever probes an image's content for its format again),
 * an origin of this storage, or a volume of this storage that M2 does not own, by the storage's own name of it.
 */
export type GoldenSource = { path: string; format: 'raw' | 'qcow2' | 'vmdk' } | Origin | { foreign: string };

/** `golden` is read-only and cloned from, `disk` is writable, `partial` was left by an interrupted call. */
export type VolumeKind = 'golden' | 'disk' | 'partial';

export interface VolumeInfo {
  name: string;
  /** Of a disk, where the storage keeps projects apart. */
  project: string | null;
  kind: VolumeKind;
  sizeBytes: number;
  /** Of a disk. */
  tags: string[];
}

/** Work that takes as long as there are bytes. */
export interface LongWork {
  /** Called with bytes of the volume's size, never fewer than before. */
  onProgress?(done: number, total: number): void;
  /** An aborted call rejects with the signal's reason and leaves nothing that was not there before. */
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
   * In order and without overlap. Without `since` the extents that hold data, all else being zeros. With a tag of the same disk,
   * no later than what is read, whatever differs from it, and possibly more; `data: false` is what became zeros.
   * Error `storage.not_found`: no such tag.
   */
  extents(since?: string): AsyncIterable<Extent>;
  /** Exactly `length` bytes; `offset + length` lies within the volume. */
  read(offset: number, length: number): Promise<Buffer>;
  close(): Promise<void>;
}

/** Every call refuses with `storage.bad_name` what is no volume name, or no tag. */
export interface ForeignKey {
  /** A UUID: a call with the key of an earlier one goes on where that died, or finds that it was done. */
  key: string;
}

export interface StorageBackend {
  readonly name: string;

  /**
   * Makes a golden volume, which depends on no other. It is complete and durable, or absent.
   * Errors: `storage.full`, `storage.bad_source`, `storage.not_found`, `storage.exists_differently`, `storage.unsupported`
   * (foreign volumes), and the reason of an aborted signal.
   */
  ensureGolden(golden: string, source: GoldenSource, options?: LongWork): Promise<VolumeInfo>;

  /**
   * Makes a copy-on-write clone; `sizeBytes` (a multiple of 512, at least the origin's) makes it larger. A disk that was made
   * flat since is found too: what it came from is not known any more.
   * Errors: `storage.not_found`, `storage.bad_size`, `storage.full`, `storage.exists_differently`.
   */
  ensureClone(origin: Origin, disk: DiskVolume, options?: { sizeBytes?: number }): Promise<VolumeInfo>;

  /**
   * Keeps a disk as it is at one moment, also while a node writes to it (to whom it looks like a power cut at that moment). Instant.
   * A tag is `[a-z0-9]{1,40}`. Error `storage.not_found`.
   */
  ensureTag(disk: DiskVolume, tag: string): Promise<void>;

  /** Forgets a tag; one that is not there is fine, with its disk or without. Error `storage.in_use`: it has clones that are not flat. */
  ensureNoTag(disk: DiskVolume, tag: string): Promise<void>;

  /**
   * Makes a disk larger, which nobody has attached; its tags keep their size. Errors: `storage.not_found`, `storage.bad_size`
   * (smaller, or no multiple of 512), `storage.in_use`.
   */
  ensureSize(disk: DiskVolume, sizeBytes: number): Promise<void>;

  /**
   * Makes a disk independent of what it was cloned from. Tags that it had may go on depending on that, and keep it in use.
   * Interrupted, the disk is a clone still, and whole. Errors: `storage.not_found`, `storage.full`; `storage.in_use` where the
   * storage cannot do that while the disk is attached.
   */
  ensureFlat(disk: DiskVolume, options?: LongWork): Promise<void>;

  /** Removes a golden volume and what an interrupted call left of it. Error `storage.in_use`: it has clones that are not flat. */
  ensureNoGolden(golden: string): Promise<void>;

  /** Removes a disk, its tags and what an interrupted call left of it. Error `storage.in_use`: clones of its tags, or it is open. */
  ensureNoDisk(disk: DiskVolume): Promise<void>;

  /**
   * Makes a disk available to an iSCSI target, read-write; the same disk gets the same place each time (until `ensureFlat`, which
   * may move it). Error `storage.not_found`.
   */
  ensureAttached(disk: DiskVolume): Promise<BackingStore>;

  /** Takes it away again. The target must have let go before: open files on it fail from here on. */
  ensureDetached(disk: DiskVolume): Promise<void>;

  /** Opens something for reading. Errors: `storage.not_found`; `storage.in_use` where an attached disk cannot be read. */
  openReader(readable: Readable): Promise<VolumeReader>;

  /**
   * Writes a flat copy as a volume of this storage that M2 does not own. Errors: `storage.exists_differently` (there is one by
   * this name), `storage.full`, `storage.unsupported`.
   */
  copyToForeign(origin: Origin, foreign: string, options: LongWork & ForeignKey): Promise<void>;

  /** Removes what `copyToForeign` made, or left, under this key; what others made stays. */
  ensureNoForeign(foreign: string, key: string): Promise<void>;

  /**
   * Forgets what the storage keeps for a project apart from its volumes, of which there are none any more.
   * Error `storage.in_use`: there are.
   */
  ensureNoProject(project: string): Promise<void>;

  /** Everything there is of ours, half-made volumes included. */
  list(): Promise<VolumeInfo[]>;

  /** Does real I/O under a deadline; rejects with what is wrong. */
  health(): Promise<void>;

  /**
   * The process behind attached volumes died. They are attached again at the same paths, but whoever had them open must
   * open them again, and writes that nobody had flushed are gone: to the node it was a power cut of its disk.
   */
  onAttachmentsLost(listener: (disks: string[]) => void): void;

  /** Lets go of the storage; attached volumes stay attached and are found again by the next backend object. */
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

/** Refuses whatever is not `<uid>img<n>`: names become file names and command arguments. Error `storage.bad_name`. */
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

/** Turns whatever a system call threw into the port's error; `doing` names the action, e.g. "clone a1img2". */
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
