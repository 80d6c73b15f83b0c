import { RbdClient, RbdError } from '@m2/rbd';
import { z } from 'zod';
import type { RbdBacking } from './rbd-disk.js';

/** These requests take milliseconds. It must be known that the cluster is down before whoever waits for the disk gives up. */
const deadlineMs = 8_000;

/** The JSON of `ceph auth get`. */
const keyring = z.tuple([z.object({ key: z.string().min(1) })]);

/** What iscsi-svc itself asks the cluster, with its own cephx user. The nodes' data never goes this way. */
export class CephCluster {
  private readonly client: RbdClient;

  constructor(
    /** Absolute path of the site's ceph.conf. */
    readonly conf: string,
    user: string,
  ) {
    this.client = RbdClient.open({ conf, user, deadlineMs, osdTimeoutMs: deadlineMs - 1_000 });
  }

  /** The key of a cephx user. Whoever has it can open the user's disks: only the daemon gets it. */
  async key(user: string): Promise<string> {
    const command = { prefix: 'auth get', entity: `client.${user}`, format: 'json' };
    const { out } = await this.client.monCommand(command);
    const [{ key }] = keyring.parse(JSON.parse(out.toString()));
    return key;
  }

  /** The addresses of the clients that have the image open for writing. */
  async watchers({ pool, namespace, image }: RbdBacking): Promise<string[]> {
    const { watchers } = await this.client.info({ pool, namespace, image });
    return watchers;
  }

  /** Resolves when the image's OSDs answer, even that there is no such image; rejects when they do not. */
  async answers(disk: RbdBacking): Promise<void> {
    await this.watchers(disk).catch((error: unknown) => {
      if (!(error instanceof RbdError) || error.code !== 'not_found') throw error;
    });
  }

  /** Blocklists a client: its locks and watches end at once, and its writes in flight are refused. */
  async fence(address: string): Promise<void> {
    await this.client.monCommand({ prefix: 'osd blocklist', blocklistop: 'add', addr: address });
  }

  close(): Promise<void> {
    return this.client.close();
  }
}
