import type { Stage } from '@m2/cli';
import { RbdBackend } from '@m2/storage/drivers';
import type { ImageRef } from '@m2/rbd';
import { Cluster, operations } from '@m2/rbd/bare';
import type { LabCeph } from '@m2/lab';
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** One way to do what is measured. `n` numbers what it makes; each way uses different names. */
export interface Way {
  import(n: number, path: string): Promise<unknown>;
  clone(n: number): Promise<unknown>;
  tag(n: number): Promise<unknown>;
  resize(n: number, bytes: number): Promise<unknown>;
  untag(n: number): Promise<unknown>;
  remove(n: number): Promise<unknown>;
  /** What `import` made under the number 0, to a new file. */
  download(path: string): Promise<unknown>;
  /** Of what `import` made under this number. */
  removeImport(n: number): Promise<unknown>;
  close(): Promise<void>;
}

const tag = 'bench';
const snap = 'golden';

/** The storage backend, as image-svc calls it; what a client downloads comes through the gateway, from the image `download`. */
export async function ours({ running, project: tenant }: Stage, ceph: LabCeph): Promise<Way> {
  const { conf, user, imagePool, diskPool } = ceph;
  const token = (await readFile(running.adminTokenFile, 'utf8')).trim();
  const url = `${running.url}/v1/projects/${tenant}/images/download/content`;
  const backend = await RbdBackend.open({ conf, user, imagePool, diskPool });
  const project = randomUUID();
  const disk = (n: number) => ({ project, name: `benchimg${n}` });
  return {
    import: (n, path) => backend.ensureGolden(`goldenimg${n}`, { path, format: 'raw' }),
    clone: (n) => backend.ensureClone({ golden: 'goldenimg0' }, disk(n)),
    tag: (n) => backend.ensureTag(disk(n), tag),
    resize: (n, bytes) => backend.ensureSize(disk(n), bytes),
    untag: (n) => backend.ensureNoTag(disk(n), tag),
    remove: (n) => backend.ensureNoDisk(disk(n)),
    download: async (path) => {
      const { body } = await fetch(url, { headers: { authorization: `Bearer ${token}` } });
      await pipeline(body!, createWriteStream(path));
    },
    removeImport: (n) => backend.ensureNoGolden(`goldenimg${n}`),
    close: () => backend.close(),
  };
}

/** librbd's functions, called in this process and one at a time where ours calls one: no child, no look before acting. */
export async function librbd({ conf, user, imagePool, diskPool }: LabCeph): Promise<Way> {
  const fence: string[] = [];
  const cluster = await Cluster.connect({ conf, user, connectSeconds: 5, monSeconds: 5, osdSeconds: 30, fence });
  const context = { cluster, signal: new AbortController().signal, progress: () => {} };
  const disk = (n: number): ImageRef => ({ pool: diskPool, image: `bare-${n}` });
  const golden = (n: number): ImageRef => ({ pool: imagePool, image: `bare-golden-${n}` });
  return {
    import: async (n, path) => {
      await operations.importFile(context, path, golden(n));
      await operations.snapCreate(context, { ...golden(n), snap });
      await operations.snapProtect(context, { ...golden(n), snap });
    },
    clone: (n) => operations.clone(context, { ...golden(0), snap }, disk(n)),
    tag: (n) => operations.snapCreate(context, { ...disk(n), snap: tag }),
    resize: (n, bytes) => operations.resize(context, disk(n), bytes),
    untag: (n) => operations.snapRemove(context, { ...disk(n), snap: tag }),
    remove: (n) => operations.remove(context, disk(n)),
    download: (path) => operations.exportFile(context, { ...golden(0), snap }, path),
    removeImport: async (n) => {
      await operations.snapUnprotect(context, { ...golden(n), snap });
      await operations.snapRemove(context, { ...golden(n), snap });
      await operations.remove(context, golden(n));
    },
    close: () => cluster.shutdown(),
  };
}

/** The `rbd` command line, as a script would call it. */
export function commandLine({ conf, user, imagePool, diskPool }: LabCeph): Way {
  const rbd = (...args: string[]) => run('rbd', ['--conf', conf, '--id', user, ...args]);
  const disk = (n: number) => `${diskPool}/cli-${n}`;
  const golden = (n: number) => `${imagePool}/cli-golden-${n}`;
  return {
    import: async (n, path) => {
      await rbd('import', '--object-size', '1M', path, golden(n));
      await rbd('snap', 'create', `${golden(n)}@${snap}`);
      await rbd('snap', 'protect', `${golden(n)}@${snap}`);
    },
    clone: (n) =>
      rbd('clone', '--object-size', '1M', '--rbd-default-clone-format', '2', `${golden(0)}@${snap}`, disk(n)),
    tag: (n) => rbd('snap', 'create', `${disk(n)}@${tag}`),
    resize: (n, bytes) => rbd('resize', '--size', `${bytes}B`, disk(n)),
    untag: (n) => rbd('snap', 'rm', `${disk(n)}@${tag}`),
    remove: (n) => rbd('rm', disk(n)),
    download: (path) => rbd('export', `${golden(0)}@${snap}`, path),
    removeImport: async (n) => {
      await rbd('snap', 'unprotect', `${golden(n)}@${snap}`);
      await rbd('snap', 'purge', golden(n));
      await rbd('rm', golden(n));
    },
    close: async () => {},
  };
}
