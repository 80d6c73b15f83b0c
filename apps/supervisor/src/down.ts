import { askStop, Control, type Status } from './control.js';
import { endLeftovers, endStorage } from './leftovers.js';
import { defaultState, findState } from './state.js';

/** Ending calls under way, cutting off storage and a checkpoint may all take their time. */
const stopDeadlineMs = 180_000;

/**
 * Stops every process of a state directory, also those that a killed supervisor left behind: services, iSCSI targets and their mounts, NATS,
 * PostgreSQL. Stored data stays. Returns false when nothing ran.
 * Throws SupervisorError, code `supervisor.stuck`, when a process does not end.
 */
export async function down(options: { state?: string | undefined } = {}): Promise<boolean> {
  const paths = findState(options.state ?? defaultState());
  if (!paths) return false;
  if (await askStop(paths, stopDeadlineMs)) return true;
  // Holds the state directory, so that nobody starts in it meanwhile.
  const control = await Control.take(paths, { status: busy, stop: () => {} });
  try {
    const ended = [...(await endLeftovers(paths)), ...(await endStorage(paths))];
    return ended.length > 0;
  } finally {
    control.close();
  }
}

const busy = (): Status => ({
  phase: 'stopping',
  pid: process.pid,
  since: new Date().toISOString(),
  settings: null,
  children: [],
});
