import type { LabCeph } from '@m2/lab';
import type { TestCeph } from '@m2/lab/testing';
import { RbdClient } from '@m2/rbd';
import { randomUUID } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Backings } from './backings.js';
import type { RbdBacking } from './rbd-disk.js';

const MiB = 2 ** 20;

/** A project as the storage service sets it up: a namespace, and a user who may use nothing else. */
export interface TestProject {
  id: string;
  user: string;
  key: string;
}

/** A cluster with projects, and the state directory of one iscsi-svc. */
export class TestCluster<Ceph extends TestCeph = TestCeph> {
  private count = 0;

  private constructor(
    readonly ceph: Ceph,
    /** What image-svc does. */
    readonly rbd: RbdClient,
    readonly directory: string,
  ) {}

  static async open<Ceph extends TestCeph>(start: () => Promise<Ceph>): Promise<TestCluster<Ceph>> {
    const directory = await mkdtemp(join(tmpdir(), 'm2-rbd-'));
    const ceph = await start();
    return new TestCluster(ceph, RbdClient.open({ conf: ceph.conf, user: ceph.user }), directory);
  }

  /** What an iscsi-svc opens when it starts. */
  backings(name = 'iscsi'): Promise<Backings> {
    const { conf, user } = this.ceph;
    return Backings.open({ directory: join(this.directory, name), ceph: { conf, user } });
  }

  async project(): Promise<TestProject> {
    const id = randomUUID();
    const { diskPool: pool, user: service } = this.ceph;
    const user = `${service}.${id}`;
    await this.rbd.namespaceCreate(pool, id);
    const caps = ['mon', 'profile rbd', 'osd', `profile rbd pool=${pool} namespace=${id}`];
    await this.ceph.ceph('auth', 'get-or-create', `client.${user}`, ...caps);
    const key = (await this.ceph.ceph('auth', 'get-key', `client.${user}`)).trim();
    return { id, user, key };
  }

  async image(project: TestProject, sizeBytes = 4 * MiB): Promise<RbdBacking> {
    this.count += 1;
    const ref = { pool: this.ceph.diskPool, namespace: project.id, image: `m1img${this.count}` };
    await this.rbd.create(ref, { sizeBytes });
    return { type: 'rbd', ...ref, user: project.user };
  }

  /** The addresses that are shut out of the cluster. */
  async fenced(): Promise<string[]> {
    // `osd blocklist ls` adds a sentence to its JSON.
    const map = await this.ceph.ceph('osd', 'dump', '--format', 'json');
    return Object.keys((JSON.parse(map) as { blocklist: object }).blocklist);
  }

  /** The process ids of the daemons of one iscsi-svc, by project. */
  async daemons(name = 'iscsi'): Promise<Map<string, number>> {
    const found = new Map<string, number>();
    const directory = join(this.directory, name);
    for (const entry of await readdir(directory)) {
      const read = (file: string) => readFile(join(directory, entry, file), 'utf8');
      // One that ends while we look is gone.
      const [project, record] = await Promise.all([read('project'), read('daemon.json')]).catch(() => []);
      if (project && record) found.set(project, (JSON.parse(record) as { pid: number }).pid);
    }
    return found;
  }

  async close(): Promise<void> {
    await this.rbd.close();
    await this.ceph.stop();
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** The OSD hangs: it keeps its connections and answers nothing. */
export const hang = (ceph: LabCeph): Promise<void> => ceph.signalOsd('SIGSTOP');

/**
 * The end of it. A new process, as one that was stopped for as long as its read lease (some 15 s) never serves some placement groups
 * again: they are "laggy" until a replica answers, and there is none.
 */
export async function recover(ceph: LabCeph): Promise<void> {
  await ceph.killOsd();
  await ceph.startOsd();
}
