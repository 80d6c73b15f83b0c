import type { Setup } from '../protocol.ts';
import type { Out, Pointer } from './native.ts';
import {
  radosBlocklistAdd,
  radosBufferFree,
  radosConfReadFile,
  radosConfSet,
  radosConnect,
  radosCreate,
  radosGetAddresses,
  radosIoctxCreate,
  radosIoctxDestroy,
  radosIoctxSetNamespace,
  radosSetPoolFullTry,
  radosShutdown,
  radosWaitForLatestMap,
} from './rados.ts';
import koffi from 'koffi';

/** The connection to the cluster, and an I/O context for each pool and namespace that was used. */
export class Cluster {
  readonly pointer: Pointer;
  /** Our address as it would be in a blocklist. */
  readonly address: string;
  readonly #ioctxs = new Map<string, Promise<Pointer>>();

  private constructor(pointer: Pointer, address: string) {
    this.pointer = pointer;
    this.address = address;
  }

  /** Connects, and fences the children that were killed before. Rejects with `NativeError`. */
  static async connect(setup: Setup): Promise<Cluster> {
    const memory: Out<Pointer | null> = [null];
    await radosCreate(memory, 'ceph', `client.${setup.user}`, 0);
    const cluster = memory[0]!;
    await radosConfReadFile(cluster, setup.conf);
    for (const [option, value] of Object.entries({
      client_mount_timeout: setup.connectSeconds,
      rados_mon_op_timeout: setup.monSeconds,
      rados_osd_op_timeout: setup.osdSeconds,
      // A client asks for the new map when a request is this old. If requests were given up sooner, it would never learn that an OSD was
      // started again.
      objecter_timeout: 3,
      objecter_tick_interval: 1,
      // Our writes are on disk when the call returns, and others' writes are visible.
      rbd_cache: false,
      // Otherwise the client would log to the daemons' file that the configuration names.
      log_file: '',
    })) {
      await radosConfSet(cluster, option, String(value));
    }
    await radosConnect(cluster);
    const addresses: Out<Pointer | null> = [null];
    await radosGetAddresses(cluster, addresses);
    const address = koffi.decode.string(addresses[0]);
    radosBufferFree(addresses[0]!);
    await fence(cluster, setup.fence);
    return new Cluster(cluster, address);
  }

  /** The I/O context for a pool and namespace. Rejects with ENOENT when the pool does not exist. */
  ioctx(pool: string, namespace = ''): Promise<Pointer> {
    const key = `${pool}/${namespace}`;
    let ioctx = this.#ioctxs.get(key);
    if (!ioctx) {
      ioctx = this.#openIoctx(pool, namespace);
      this.#ioctxs.set(key, ioctx);
      ioctx.catch(() => this.#ioctxs.delete(key));
    }
    return ioctx;
  }

  async #openIoctx(pool: string, namespace: string): Promise<Pointer> {
    const memory: Out<Pointer | null> = [null];
    await radosIoctxCreate(this.pointer, pool, memory);
    radosIoctxSetNamespace(memory[0]!, namespace);
    // A full pool answers that it is full. Otherwise requests wait for space, deletions included.
    radosSetPoolFullTry(memory[0]!);
    return memory[0]!;
  }

  /** Disconnects. Images must be closed before. */
  async shutdown(): Promise<void> {
    for (const ioctx of await Promise.allSettled(this.#ioctxs.values())) {
      if (ioctx.status === 'fulfilled') radosIoctxDestroy(ioctx.value);
    }
    await radosShutdown(this.pointer);
  }
}

/**
 * Blocklists clients that are dead: the cluster executes none of the requests that they still have in flight, and their images are free at
 * once instead of when the watch expires. A user without the right to do that (`profile rbd` has it) waits instead.
 */
async function fence(cluster: Pointer, addresses: string[]): Promise<void> {
  const done = await Promise.allSettled(addresses.map((address) => radosBlocklistAdd(cluster, address, 0)));
  // OSDs execute a request only when they have the map that its sender had.
  if (done.some(({ status }) => status === 'fulfilled')) await radosWaitForLatestMap(cluster);
}
