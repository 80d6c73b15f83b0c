import { mkdir, realpath } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { withFileLock } from '../process/file-lock.js';
import { ensureNoProcessWith, signalAll } from '../process/owned-process.js';
import { ceph, createCluster, makeAccess, readIdentity, restartCluster, startMon, startOsd } from './cluster.js';
import { daemonPid, dataArgument, ensureDaemon, ensureNoDaemon } from './daemon.js';
import { type Access, type DaemonName, type Layout, layoutOf, mainAccess } from './layout.js';

export interface CephOptions {
  /** Everything of the cluster is below this directory, which must be the cluster's own. Made when it is not there. */
  directory: string;
  /** Size of the OSD's disk, a sparse file; 64 GiB by default. Only the first start decides. */
  osdBytes?: number;
}

export interface CephDaemon {
  name: DaemonName;
  /** Undefined when it does not run. */
  pid: number | undefined;
}

/** A cluster, for who uses it as `user` with its two pools. The rights of `user` are `clientCaps`, in configuration.ts. */
export interface CephAccess extends Access {
  /** What clients read: the monitor's address, and where the keyring of `user` is. */
  conf: string;
  /** The administrator's, for tests. */
  adminConf: string;
  /** Runs the command line tool as the administrator and returns what it printed; half a minute at most. */
  ceph(...args: string[]): Promise<string>;
}

/** A cluster that runs. It goes on without the process that started it, until `stop` or `stopCeph`. */
export interface LabCeph extends CephAccess {
  /** Two pools of their own and a user for them, for those who share the cluster with others. `name` must be new. */
  access(name: string): Promise<CephAccess>;
  stop(): Promise<void>;

  /** For tests of what happens when parts of a cluster are away. Each start returns when that part works again. */
  killOsd(): Promise<void>;
  startOsd(): Promise<void>;
  stopMon(): Promise<void>;
  startMon(): Promise<void>;
  /** A stopped OSD keeps its connections and answers nothing, as one whose disk hangs. */
  signalOsd(signal: 'SIGSTOP' | 'SIGCONT'): Promise<void>;
  /**
   * Makes the cluster full, whatever is in it. From then on everything that writes waits until there is room again, or fails with
   * ETIMEDOUT when `rados_osd_op_timeout` is over: also opening an image to write, and removing it. Lists and reads go on.
   */
  setFull(): Promise<void>;
  unsetFull(): Promise<void>;
}

const defaultOsdBytes = 64 * 2 ** 30;
const startOrder: DaemonName[] = ['mon', 'osd', 'mgr'];
/** The other daemons tell the monitor that they stop. Without it, each waits for seconds. */
const stopOrder: DaemonName[] = ['osd', 'mgr', 'mon'];

/**
 * Starts the one-node cluster of a directory: makes it when there is none yet, starts what does not run of it otherwise. Returns when both
 * pools can be used. Needs no root. Ends what it started when it fails. Throws with code `lab.ceph_not_ready` or `lab.port_taken`.
 */
export async function startCeph({ directory, osdBytes = defaultOsdBytes }: CephOptions): Promise<LabCeph> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const layout = layoutOf(await realpath(directory));
  return withFileLock(layout.lock, async () => {
    const ranBefore = await cephDaemons(layout.directory);
    try {
      const identity = await readIdentity(layout);
      if (identity) await restartCluster(layout, identity);
      else await createCluster(layout, osdBytes);
      // Last, without waiting: the manager counts what the pools hold, and RBD does not need that.
      await ensureDaemon(layout, 'mgr');
      return handleOf(layout);
    } catch (error) {
      for (const name of stopOrder)
        if (!ranBefore.some((daemon) => daemon.name === name && daemon.pid)) await ensureNoDaemon(layout, name);
      throw error;
    }
  });
}

/** Stops the cluster of a directory, whoever started it. Does nothing when none runs. Its data stays. */
export async function stopCeph(directory: string): Promise<void> {
  const layout = await existingLayout(directory);
  if (!layout) return;
  await withFileLock(layout.lock, async () => {
    for (const name of stopOrder) await ensureNoDaemon(layout, name);
  });
}

/** The daemons of a directory's cluster; none when there never was a cluster. */
export async function cephDaemons(directory: string): Promise<CephDaemon[]> {
  const layout = await existingLayout(directory);
  if (!layout) return [];
  return Promise.all(startOrder.map(async (name) => ({ name, pid: await daemonPid(layout, name) })));
}

async function existingLayout(directory: string): Promise<Layout | undefined> {
  const real = await realpath(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  return real === undefined ? undefined : layoutOf(real);
}

function handleOf(layout: Layout): LabCeph {
  const common = { adminConf: layout.clusterConf, ceph: (...args: string[]) => ceph(layout, ...args) };
  return {
    ...common,
    ...mainAccess,
    conf: layout.clientConf,
    async access(name) {
      const access = { imagePool: `${name}-images`, diskPool: `${name}-disks`, user: name };
      return { ...common, ...access, conf: await makeAccess(layout, access) };
    },
    stop: () => stopCeph(layout.directory),
    killOsd: () => ensureNoProcessWith([dataArgument(layout, 'osd')]),
    startOsd: () => startOsd(layout),
    stopMon: () => ensureNoDaemon(layout, 'mon'),
    startMon: async () => startMon(layout, (await readIdentity(layout))!),
    signalOsd: (signal) => signalAll([dataArgument(layout, 'osd')], signal),
    setFull: () => setRatios(layout, { nearfull: '0.000001', backfillfull: '0.000001', full: '0.000001' }, true),
    unsetFull: () => setRatios(layout, { full: '0.95', backfillfull: '0.90', nearfull: '0.85' }, false),
  };
}

/** The OSD takes none of them to be below the one before it, so that all three are needed; it looks at them once a second. */
async function setRatios(layout: Layout, ratios: Record<string, string>, full: boolean): Promise<void> {
  for (const [name, ratio] of Object.entries(ratios)) await ceph(layout, 'osd', `set-${name}-ratio`, ratio);
  const isFull = async () => {
    const dump = await ceph(layout, 'osd', 'dump', '--format', 'json');
    const { pools } = JSON.parse(dump) as { pools: { flags_names: string }[] };
    return pools.every(({ flags_names }) => flags_names.split(',').includes('full'));
  };
  for (const deadline = performance.now() + 30_000; (await isFull()) !== full; await delay(50))
    if (performance.now() > deadline) throw new Error(`The cluster does not become ${full ? 'full' : 'usable again'}`);
}
