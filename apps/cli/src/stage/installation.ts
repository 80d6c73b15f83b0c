import { type CephDaemon, cephDaemons, type LabCeph, startCeph, stopCeph } from '@m2/lab';
import {
  AlreadyRunningError,
  down,
  ensurePackages,
  findState,
  plannedStorage,
  type Running,
  SupervisorError,
  up,
  type UpOptions,
} from '@m2/supervisor';
import { storagePackages } from './packages.js';

export type { CephDaemon };

/** M2, and the Ceph cluster in its state directory where that is its storage. */
export interface Installation extends Running {
  ceph?: LabCeph;
}

/**
 * `up`, and before it what its storage needs: Debian packages, and the lab's Ceph when it was told of no other. The cluster goes on as
 * long as M2 does, and ends with it.
 * Throws SupervisorError; nothing is left running then.
 */
export async function startInstallation(options: UpOptions, report: (line: string) => void): Promise<Installation> {
  const { storage, ownCeph } = plannedStorage(options);
  await ensurePackages(storagePackages(storage), report);
  if (storage.kind !== 'ceph' || storage.conf) return up(options, report);
  report('starting Ceph');
  const ceph = await startCeph({ directory: ownCeph }).catch(cannotStart);
  try {
    const running = await up(options, report);
    // A detached one is not ours to end.
    return { ...running, ceph, ended: options.detach ? running.ended : running.ended.finally(() => ceph.stop()) };
  } catch (error) {
    // Whoever runs there already has its disks from it.
    if (!(error instanceof AlreadyRunningError)) await ceph.stop();
    throw error;
  }
}

/** `down`, and after it the Ceph cluster in the state directory. Returns false when nothing ran. */
export async function stopInstallation(state: string): Promise<boolean> {
  const daemons = await cephOf(state);
  const stopped = await down({ state });
  // Also when none runs yet: one may be starting.
  const directory = findState(state)?.ceph;
  if (directory) await stopCeph(directory);
  return stopped || daemons.some(({ pid }) => pid !== undefined);
}

/** The daemons of the Ceph cluster in the state directory; none when it has none. */
export async function cephOf(state: string): Promise<CephDaemon[]> {
  const directory = findState(state)?.ceph;
  return directory ? cephDaemons(directory) : [];
}

const cannotStart = (cause: Error) => {
  const remedy = "Read the logs in the state directory's ceph/log, or choose another storage with --storage.";
  throw new SupervisorError('supervisor.child_failed', `Ceph cannot be started: ${cause.message}`, remedy, { cause });
};
