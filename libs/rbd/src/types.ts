/** An image by name; without `namespace` in the pool's default namespace. */
export interface ImageRef {
  pool: string;
  namespace?: string;
  image: string;
}

export interface SnapRef extends ImageRef {
  snap: string;
}

/** What can be read: an image as it is now, or one of its snapshots. */
export interface SourceRef extends ImageRef {
  snap?: string;
}

export const featureNames = [
  'layering',
  'striping',
  'exclusive-lock',
  'object-map',
  'fast-diff',
  'deep-flatten',
  'journaling',
  'data-pool',
  'operations',
  'migrating',
  'non-primary',
  'dirty-cache',
] as const;

export type Feature = (typeof featureNames)[number];

/** Layout of a new image. Copy-on-write copies whole objects, so boot disks have small ones. */
export interface ImageOptions {
  /** A power of two from 4 KiB to 32 MiB; default 1 MiB. */
  objectBytes?: number;
  /** Default: layering, exclusive-lock, object-map and fast-diff. */
  features?: Feature[];
}

export interface ImageName {
  name: string;
  id: string;
}

/** An image in the trash has no name any more that others could use; `name` is the one that it had. */
export type TrashedImage = ImageName;

export interface SnapInfo {
  id: number;
  name: string;
  sizeBytes: number;
  protected: boolean;
  /** `trash`: it was removed while it had clones, and disappears with the last of them. */
  kind: 'user' | 'group' | 'trash' | 'mirror';
}

/** Who holds an image's exclusive lock; `address` is the client's, as in a blocklist. */
export interface LockOwner {
  client: string;
  cookie: string;
  address: string;
}

export interface ImageInfo {
  id: string;
  sizeBytes: number;
  objectBytes: number;
  features: Feature[];
  /** The snapshot that this image is a clone of; `trashed` when that image is in the trash. */
  parent?: Required<SnapRef> & { trashed: boolean };
  snaps: SnapInfo[];
  /** Addresses of clients that have the image open for writing. */
  watchers: string[];
  lockOwners: LockOwner[];
}

/** A clone of a snapshot. */
export interface Child extends Required<ImageRef> {
  id: string;
  /** It is in the trash, and still depends on its parent. */
  trashed: boolean;
}

/** Bytes as the pool's users count them: without replicas; `availableBytes` is what still fits. */
export interface PoolStats {
  usedBytes: number;
  availableBytes: number;
}

/** A part of an image that differs; `exists: false` means that it is zeros now. */
export interface Extent {
  offset: number;
  length: number;
  exists: boolean;
}

export interface MonAnswer {
  status: string;
  out: Buffer;
}

/**
 * Where a client writes down its connections' addresses in the cluster, so that the next life of its process can shut the last one out:
 * what that one asked for last may still be on its way.
 */
export interface AddressBook {
  /** Addresses of connections whose process is gone and did not end them in good order. */
  dead(): Promise<string[]>;
  /** Called before the connection is used. */
  add(address: string): Promise<void>;
  /** They are shut out, or ended in good order. */
  remove(addresses: string[]): Promise<void>;
  /** The client ends. What was not removed is dead from now on. */
  close(): Promise<void>;
}

export interface RbdClientOptions {
  /** Absolute path of ceph.conf. It names the keyring, so no key passes through here. */
  conf: string;
  /** The cephx user without "client.". */
  user: string;
  /** How long connecting may take; default 5 s. */
  connectDeadlineMs?: number;
  /** Default deadline of a call; 20 s when not given. */
  deadlineMs?: number;
  /** How long the monitors may take for one request; default 5 s. */
  monTimeoutMs?: number;
  /** How long an OSD may take for one request; default 15 s. Keep it below the calls' deadlines: then no child has to be killed. */
  osdTimeoutMs?: number;
  /** How long the child may stay silent after a call's deadline before it is killed; default 2 s. */
  graceMs?: number;
  /** Without it, only the clients that this object itself has lost are shut out. */
  addressBook?: AddressBook;
}

export interface CallOptions {
  /** Milliseconds until the call rejects with `timeout`; for a call that reports progress, since the last progress. */
  deadlineMs?: number;
  /**
   * Stops long calls (flatten, resize, copy, import, export, stream, diff); they reject with the signal's reason once nothing is written
   * any more. Other calls are not begun, or run to their end.
   */
  signal?: AbortSignal;
}

export interface ProgressOptions extends CallOptions {
  onProgress?(done: number, total: number): void;
}
