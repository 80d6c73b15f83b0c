/**
 * The storage port: what image-svc asks of whatever keeps its volumes. One folder beside this file per backend; every
 * backend passes `storage.conformance.ts`.
 *
 * Every `ensure…` looks before it acts, so a repeated or resumed operation ends in the same state.
 */

/** What iscsi-svc hands to its target. A backend that is not made of files adds its own member. */
export type BackingStore = { type: 'file'; path: string };

/** `golden` is read-only and cloned from, `clone` is a node's writable disk, `partial` was left by an interrupted call. */
export type VolumeKind = 'golden' | 'clone' | 'partial';

/** `allocatedBytes` is what the volume's own storage occupies; blocks that reflinked volumes share count in each of them. */
export interface VolumeInfo {
  name: string;
  kind: VolumeKind;
  sizeBytes: number;
  allocatedBytes: number;
}

/** A local image file in an explicit format: nothing ever probes an image's content for its format again. */
export interface GoldenSource {
  path: string;
  format: 'raw' | 'qcow2';
}

export interface ImportOptions {
  /** Called with bytes of the image's virtual size. */
  onProgress?(done: number, total: number): void;
  signal?: AbortSignal;
}

export interface StorageBackend {
  readonly name: string;
  /**
   * Makes a golden volume from a file that was inspected already. The volume is complete and durable, or absent.
   * Errors: `storage.full`, `storage.bad_source`, `storage.exists_differently`, and the reason of an aborted signal.
   */
  ensureGolden(volume: string, source: GoldenSource, options?: ImportOptions): Promise<VolumeInfo>;
  /**
   * Makes a copy-on-write clone; `sizeBytes` (a multiple of 512, at least the golden volume's) makes it larger.
   * Errors: `storage.not_found`, `storage.bad_size`, `storage.full`, `storage.exists_differently`.
   */
  ensureClone(golden: string, volume: string, options?: { sizeBytes?: number }): Promise<VolumeInfo>;
  /** Removes a volume and what an interrupted call left of it. Error `storage.in_use`: it has clones, or is attached. */
  ensureNoVolume(volume: string): Promise<void>;
  /** Makes a clone available to an iSCSI target, read-write; the same clone gets the same path each time. */
  ensureAttached(volume: string): Promise<BackingStore>;
  /** Takes it away again. The target must have let go before: open files on it fail from here on. */
  ensureDetached(volume: string): Promise<void>;
  /** Everything there is, half-made volumes included. */
  list(): Promise<VolumeInfo[]>;
  /** Does real I/O under a deadline; rejects with what is wrong. */
  health(): Promise<void>;
  /**
   * The process behind attached volumes died. They are attached again at the same paths, but whoever had them open must
   * open them again, and writes that nobody had flushed are gone: to the node it was a power cut of its disk.
   */
  onAttachmentsLost(listener: (volumes: string[]) => void): void;
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
  | 'storage.unavailable';

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
