import { run } from '../process/run.js';
import type { CephAccess } from './ceph.js';
import { poolsOf } from './layout.js';
import { cephEnvironment } from './daemon.js';

/** An image has a header, its name's entry, object maps (one more for each snapshot) and data; the rest of a pool is bookkeeping. */
const ofImages = /^rbd_(id|header|object_map|data)\./;

const tool = ({ adminConf }: CephAccess, program: string, ...args: string[]) =>
  run(program, ['--conf', adminConf, ...args], { env: cephEnvironment, deadlineMs: 30_000 });
const json = async (ceph: CephAccess, ...args: string[]) =>
  JSON.parse(await tool(ceph, 'rbd', ...args, '--format', 'json')) as unknown;

/** The namespaces of a pool, by name; the default one has none. */
export async function namespacesIn(ceph: CephAccess, pool: string): Promise<string[]> {
  const listed = (await json(ceph, 'namespace', 'ls', pool)) as { name: string }[];
  return listed.map(({ name }) => name).sort();
}

/**
 * All that is stored of images and their snapshots, as RADOS itself lists it: `pool/namespace/object`. Only here
 * shows what the removal of an image or of a snapshot left behind.
 */
export async function imageObjects(ceph: CephAccess): Promise<string[]> {
  const lists = poolsOf(ceph).map(async (pool) => {
    const lines = (await tool(ceph, 'rados', '-p', pool, 'ls', '--all')).split('\n');
    return lines.map((line) => line.split('\t')).filter(([, name]) => ofImages.test(name ?? ''));
  });
  const objects = await Promise.all(lists);
  return objects
    .flatMap((list, place) => list.map(([namespace, name]) => `${poolsOf(ceph)[place]}/${namespace}/${name}`))
    .sort();
}

/** Every image and snapshot of both pools: `pool/image`, `pool/namespace/image@snapshot`, and `, protected` behind those that are. */
export async function imagesIn(ceph: CephAccess): Promise<string[]> {
  const places = await Promise.all(
    poolsOf(ceph).map(async (pool) => [pool, ...(await namespacesIn(ceph, pool)).map((name) => `${pool}/${name}`)]),
  );
  const lists = places.flat().map(async (place) => {
    const rows = (await json(ceph, 'ls', '-l', place)) as { image: string; snapshot?: string; protected?: string }[];
    return rows.map(
      ({ image, snapshot, protected: isProtected }) =>
        `${place}/${image}${snapshot ? `@${snapshot}` : ''}${isProtected === 'true' ? ', protected' : ''}`,
    );
  });
  return (await Promise.all(lists)).flat().sort();
}
