import { Connection, type Call, type Fencing } from './connection.ts';
import { ImageHandle } from './image-handle.ts';
import { openStream, type ImageStream } from './image-stream.ts';
import { RbdError } from './rbd-error.ts';
import type {
  CallOptions,
  Child,
  ImageInfo,
  ImageName,
  ImageOptions,
  ImageRef,
  LockOwner,
  MonAnswer,
  PoolStats,
  ProgressOptions,
  RbdClientOptions,
  SnapRef,
  SourceRef,
  TrashedImage,
} from './types.ts';

const defaults = {
  connectDeadlineMs: 5000,
  deadlineMs: 20_000,
  monTimeoutMs: 5000,
  osdTimeoutMs: 15_000,
  graceMs: 2000,
};

type Options = RbdClientOptions & typeof defaults;

/**
 * A client of a Ceph cluster's block devices. A child process holds the connection, from the first call on. When it hangs or dies, the next
 * call replaces it. Every method rejects with `RbdError`, or with the reason of an aborted signal.
 */
export class RbdClient {
  readonly #options: Options;
  #connection: Connection | undefined;
  #closed = false;
  /** Addresses of our own children that died and may still have requests in flight. */
  #lost: string[] = [];

  private constructor(options: Options) {
    this.#options = options;
  }

  /** Does not start a child yet. */
  static open(options: RbdClientOptions): RbdClient {
    return new RbdClient({ ...defaults, ...options });
  }

  /** Disconnects. Calls under way are lost; wait for them first. */
  async close(): Promise<void> {
    this.#closed = true;
    const connection = this.#connection;
    const inGoodOrder = await connection?.close();
    const { addressBook } = this.#options;
    if (inGoodOrder && connection?.address) await addressBook?.remove([connection.address]);
    await addressBook?.close();
  }

  /** Process id of the child, while there is one. */
  get pid(): number | undefined {
    return this.#connection?.pid;
  }

  versions(options?: CallOptions): Promise<{ librados: string; librbd: string }> {
    return this.#call('versions', [], options);
  }

  // Pools and namespaces

  poolId(pool: string, options?: CallOptions): Promise<number> {
    return this.#call('poolId', [pool], options);
  }

  /** The manager counts every few seconds. */
  poolStats(pool: string, options?: CallOptions): Promise<PoolStats> {
    return this.#call('poolStats', [pool], options);
  }

  namespaceCreate(pool: string, namespace: string, options?: CallOptions): Promise<void> {
    return this.#call('namespaceCreate', [pool, namespace], options);
  }

  namespaceExists(pool: string, namespace: string, options?: CallOptions): Promise<boolean> {
    return this.#call('namespaceExists', [pool, namespace], options);
  }

  /** Error `busy`: it has images. */
  namespaceRemove(pool: string, namespace: string, options?: CallOptions): Promise<void> {
    return this.#call('namespaceRemove', [pool, namespace], options);
  }

  namespaceList(pool: string, options?: CallOptions): Promise<string[]> {
    return this.#call('namespaceList', [pool], options);
  }

  /** A command to the monitors as JSON, e.g. `{ prefix: 'osd stat', format: 'json' }`. */
  monCommand(command: Record<string, unknown>, input?: string, options?: CallOptions): Promise<MonAnswer> {
    return this.#call('monCommand', [command, input], options);
  }

  // Images

  list(pool: string, namespace?: string, options?: CallOptions): Promise<ImageName[]> {
    return this.#call('list', [pool, namespace], options);
  }

  /**
   * The names of images that are `name`, or begin with `name` and a dot: at the same cost however many others there are. An image whose
   * removal has begun is in the trash, and not among them.
   */
  namesLike(pool: string, namespace: string | undefined, name: string, options?: CallOptions): Promise<string[]> {
    return this.#call('namesLike', [pool, namespace, name], options);
  }

  info(ref: SourceRef, options?: CallOptions): Promise<ImageInfo> {
    return this.#call('info', [ref], options);
  }

  /** Bytes of the image's own objects, without what a clone has from its parent. */
  usedBytes(ref: SourceRef, options?: CallOptions): Promise<number> {
    return this.#call('usedBytes', [ref], options);
  }

  create(ref: ImageRef, image: ImageOptions & { sizeBytes: number }, options?: CallOptions): Promise<void> {
    return this.#call('create', [ref, image], options);
  }

  /** Creates a copy-on-write clone of clone format 2: of any snapshot, protected or not, in any pool and namespace. */
  clone(parent: SnapRef, child: ImageRef, image?: ImageOptions, options?: CallOptions): Promise<void> {
    return this.#call('clone', [parent, child, image], options);
  }

  /**
   * Takes time for each object, without progress; so its default deadline is ten minutes. A cluster that is down is noticed sooner, by the
   * time limit of an OSD. Error `busy`: it has snapshots, or somebody has it open.
   */
  remove(ref: ImageRef, options?: CallOptions): Promise<void> {
    return this.#call('remove', [ref], { deadlineMs: 600_000, ...options });
  }

  /**
   * Takes an image, whatever its size, out of its namespace at once, and keeps its data in the trash. Images that others have open and
   * parents of clones are taken, too: look before.
   */
  trashMove(ref: ImageRef, options?: CallOptions): Promise<void> {
    return this.#call('trashMove', [ref], options);
  }

  /** What is in the trash, whose removal was begun and interrupted included. */
  trashList(pool: string, namespace?: string, options?: CallOptions): Promise<TrashedImage[]> {
    return this.#call('trashList', [pool, namespace], options);
  }

  /**
   * Removes an image and its data from the trash. It may be called again after an interruption, and goes on. Images from `progressFromBytes` on
   * (64 GiB) report progress, can be aborted, and may take as long as they go on. Errors: `busy` (somebody has it open), `not_found`.
   */
  trashRemove(
    { pool, namespace, id }: { pool: string; namespace?: string; id: string },
    { progressFromBytes = 2 ** 36, ...options }: ProgressOptions & { progressFromBytes?: number } = {},
  ): Promise<void> {
    return this.#call('trashRemove', [pool, namespace, id, { progressFromBytes }], {
      deadlineMs: 3_600_000,
      ...options,
    });
  }

  /** Renames it within the same pool and namespace. */
  rename(ref: ImageRef, name: string, options?: CallOptions): Promise<void> {
    return this.#call('rename', [ref, name], options);
  }

  /** Error `invalid`: it would become smaller, and `allowShrink` is not set. */
  resize(ref: ImageRef, sizeBytes: number, options: ProgressOptions & { allowShrink?: boolean } = {}): Promise<void> {
    const { allowShrink = false, ...callOptions } = options;
    return this.#call('resize', [ref, sizeBytes, { allowShrink }], callOptions);
  }

  /** Makes a clone independent of its parent. After an abort it is still a clone, and can be flattened later. */
  flatten(ref: ImageRef, options?: ProgressOptions): Promise<void> {
    return this.#call('flatten', [ref], options);
  }

  /** Keeps a short text with an image. It stays when the image is renamed. */
  metadataSet(ref: ImageRef, key: string, value: string, options?: CallOptions): Promise<void> {
    return this.#call('metadataSet', [ref, key, value], options);
  }

  metadataGet(ref: ImageRef, key: string, options?: CallOptions): Promise<string | undefined> {
    return this.#call('metadataGet', [ref, key], options);
  }

  // Snapshots

  snapCreate(ref: SnapRef, options?: CallOptions): Promise<void> {
    return this.#call('snapCreate', [ref], options);
  }

  /** Error `busy`: it is protected already. */
  snapProtect(ref: SnapRef, options?: CallOptions): Promise<void> {
    return this.#call('snapProtect', [ref], options);
  }

  /** Errors: `invalid` when it is not protected, `busy` when it has clones of format 1. */
  snapUnprotect(ref: SnapRef, options?: CallOptions): Promise<void> {
    return this.#call('snapUnprotect', [ref], options);
  }

  /** Error `busy`: it is protected. A snapshot with clones of format 2 goes to the trash, and its image cannot be removed. */
  snapRemove(ref: SnapRef, options?: CallOptions): Promise<void> {
    return this.#call('snapRemove', [ref], options);
  }

  /** Clones of a snapshot; for an image, of all its snapshots, removed ones included. */
  children(ref: SourceRef, options?: CallOptions): Promise<Child[]> {
    return this.#call('children', [ref], options);
  }

  // Locks

  lockOwners(ref: ImageRef, options?: CallOptions): Promise<LockOwner[]> {
    return this.#call('lockOwners', [ref], options);
  }

  // Data

  /**
   * Copies an image or a snapshot of any pool into a new image without parent and snapshots; `sizeBytes` makes it larger. When it fails or
   * is aborted, the new image stays for the caller to remove; the same with `importFile`.
   */
  copy(
    from: SourceRef,
    to: ImageRef,
    image?: ImageOptions & { sizeBytes?: number },
    options?: ProgressOptions,
  ): Promise<void> {
    return this.#call('copy', [from, to, image], options);
  }

  /** Copies a raw file, without its holes and zeros, into a new image. The child reads the file. */
  importFile(
    path: string,
    to: ImageRef,
    image?: ImageOptions & { sizeBytes?: number },
    options?: ProgressOptions,
  ): Promise<void> {
    return this.#call('importFile', [path, to, image], options);
  }

  /** Writes an image or a snapshot into a new raw file with holes. Error `exists`: the file exists. */
  exportFile(from: SourceRef, path: string, options?: ProgressOptions): Promise<void> {
    return this.#call('exportFile', [from, path], options);
  }

  /** Opens an image or a snapshot as a stream, from `start` up to and not including `end`. */
  readStream(
    from: SourceRef,
    range: { start?: number; end?: number } = {},
    options: CallOptions = {},
  ): Promise<ImageStream> {
    return openStream(this.#call, from, range, options);
  }

  /**
   * Opens an image for reading and writing; a snapshot, or anything with `readOnly`, for reading only. A snapshot that is opened with
   * `readOnly: false` is watched: the image cannot be removed meanwhile, and when the snapshot is removed, reads fail with `not_found`
   * instead of returning zeros.
   */
  async openImage(ref: SourceRef, mode: { readOnly?: boolean } = {}, options?: CallOptions): Promise<ImageHandle> {
    const readOnly = mode.readOnly ?? ref.snap !== undefined;
    if (this.#closed) throw closedError('openImage');
    // A handle is a number in one child. It must not be used with the next child.
    const { call } = this.#live();
    return new ImageHandle(await call('handleOpen', [ref, { readOnly }], options), call);
  }

  readonly #call: Call = (name, args, options) =>
    this.#closed ? Promise.reject(closedError(name)) : this.#live().call(name, args, options);

  #live(): Connection {
    return (this.#connection ??= this.#connect());
  }

  #connect(): Connection {
    const { conf, user, connectDeadlineMs, monTimeoutMs, osdTimeoutMs, addressBook } = this.#options;
    const setup = {
      conf,
      user,
      connectSeconds: connectDeadlineMs / 1000,
      monSeconds: monTimeoutMs / 1000,
      osdSeconds: osdTimeoutMs / 1000,
    };
    const fencing: Fencing = {
      dead: async () => [...new Set([...((await addressBook?.dead()) ?? []), ...this.#lost])],
      connected: async (address, fenced) => {
        this.#lost = this.#lost.filter((lost) => !fenced.includes(lost));
        await addressBook?.add(address);
        await addressBook?.remove(fenced);
      },
    };
    const connection = new Connection(setup, this.#options, fencing, () => {
      if (connection.address !== undefined) this.#lost.push(connection.address);
      if (this.#connection === connection) this.#connection = undefined;
    });
    return connection;
  }
}

const closedError = (call: string) => new RbdError('unavailable', call, 'the client was closed');
