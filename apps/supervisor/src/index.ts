import { askStatus, type Status } from './control.js';
import { SupervisorError } from './errors.js';
import { type LogLine, logNames, readLogs } from './logs.js';
import { defaultState, findState } from './state.js';

export type { ChildStatus } from './child.js';
export type { Status } from './control.js';
export { down } from './down.js';
export { AlreadyRunningError, SupervisorError } from './errors.js';
export type { LogLine } from './logs.js';
export { portsOf, type Settings } from './options.js';
export { type DebianPackage, ensurePackages, missingPackages, rbdPackages, servicePackages } from './packages.js';
export { findFreeBasePort } from './ports.js';
export type { ServiceEnvironments } from './services.js';
export { defaultState, findState, type Paths } from './state.js';
export type { Storage } from './storage.js';
export { plannedStorage, type Running, up, type UpOptions } from './up.js';

/** What runs, and how it is; undefined when nothing does. Throws `supervisor.stuck` when the supervisor does not answer. */
export async function status(options: { state?: string | undefined } = {}): Promise<Status | undefined> {
  const paths = findState(options.state ?? defaultState());
  return paths && askStatus(paths);
}

/** The parts that have a log; none where nothing was ever started. */
export function loggedParts(options: { state?: string | undefined } = {}): string[] {
  const paths = findState(options.state ?? defaultState());
  return paths ? logNames(paths) : [];
}

/** Lines of the logs of one part (`gateway`, `image`, `postgres`, `nats`, `supervisor` …) or of all, the old ones first. Throws `supervisor.bad_option`. */
export async function* logs(
  name?: string,
  options: { state?: string | undefined; follow?: boolean; lines?: number; signal?: AbortSignal } = {},
): AsyncGenerator<LogLine> {
  const paths = findState(options.state ?? defaultState());
  if (!paths) return;
  const { follow = false, lines = 100, signal } = options;
  const names = logNames(paths);
  if (name !== undefined && !names.includes(name))
    throw new SupervisorError(
      'supervisor.bad_option',
      `There is no log of ${name}`,
      `Choose one of ${names.join(', ')}.`,
    );
  yield* readLogs(paths, name === undefined ? names : [name], { lines, follow, signal });
}
