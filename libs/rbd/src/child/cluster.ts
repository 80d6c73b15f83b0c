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
  /** Our address, as a blocklist would name it. */
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
      // A client asks for the new map when a request is this old. Where requests are given up sooner than that, it would never learn that
      // an OSD was started again.
      objecter_timeout: 3,
      objecter_tick_interval: 1,
      // What we write is on disk when the call returns, and what others wrote is seen.
      rbd_cache: false,
      // A client's log would go to the file that the configuration names for daemons, which belongs to them.
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

  /** The I/O context for a pool and namespace. A pool that is not there rejects with ENOENT. */
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
    // A full pool answers so. Without this, requests wait for space to appear, deletions included.
    radosSetPoolFullTry(memory[0]!);
    return memory[0]!;
  }

  /** Lets go of everything. Images must be closed before. */
  async shutdown(): Promise<void> {
    for (const ioctx of await Promise.allSettled(this.#ioctxs.values())) {
      if (ioctx.status === 'fulfilled') radosIoctxDestroy(ioctx.value);
    }
    await radosShutdown(this.pointer);
  }
}

/**
 * Blocklists clients that are dead: nothing that they still have on the way is carried out any more, and the images that
 * they had open are free at once instead of when their watch expires. A user without the right to do so (`profile rbd`
 * has it) waits for that instead.
 */
async function fence(cluster: Pointer, addresses: string[]): Promise<void> {
  const done = await Promise.allSettled(addresses.map((address) => radosBlocklistAdd(cluster, address, 0)));
  // OSDs carry out a request only when they have the map that its sender had.
  if (done.some(({ status }) => status === 'fulfilled')) await radosWaitForLatestMap(cluster);
}
