import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { ServiceName } from '@m2/contracts';
import { AlreadyRunningError, SupervisorError } from './errors.js';
import { logFile } from './logs.js';
import { type GivenSettings, planSettings, portsOf, savedSettings, type Settings } from './options.js';
import type { ServiceEnvironments } from './services.js';
import { defaultState, ensureState, type Paths } from './state.js';
import type { Storage } from './storage.js';
import { type Launch, Supervisor } from './supervisor.js';

export interface UpOptions extends GivenSettings {
  /** The state directory; see `defaultState`. */
  state?: string | undefined;
  /** Leave it running in a session of its own, and return when it is ready. */
  detach?: boolean | undefined;
  /** More environment for single services; not remembered for the next start. */
  env?: ServiceEnvironments | undefined;
  /** Other programs in the place of services, for tests of the supervisor. */
  mains?: Partial<Record<ServiceName, string>> | undefined;
  readyDeadlineMs?: number | undefined;
  /** See `Launch`. */
  pace?: Launch['pace'];
}

/** An installation that is ready. */
export interface Running {
  state: string;
  /** The origin of the API. */
  url: string;
  adminTokenFile: string;
  settings: Settings;
  /** Resolves when it was stopped (Ctrl-C, SIGTERM, `down`). When it was detached: at once, for it is not ours. */
  ended: Promise<void>;
}

/** What a detached supervisor tells the process that started it. */
export type Message =
  | { kind: 'report'; line: string }
  | { kind: 'ready' }
  | { kind: 'failed'; code: SupervisorError['code']; message: string; remedy: string };

const defaultReadyDeadlineMs = 180_000;

/**
 * Starts the embedded default and returns when every service is ready. In the foreground this process becomes the supervisor, and SIGINT
 * and SIGTERM stop everything.
 * Throws AlreadyRunningError, or SupervisorError with a code and a remedy; nothing is left running then.
 */
export async function up(options: UpOptions = {}, report: (line: string) => void = () => {}): Promise<Running> {
  const {
    state,
    detach = false,
    env = {},
    mains = {},
    readyDeadlineMs = defaultReadyDeadlineMs,
    pace,
    ...settings
  } = options;
  const paths = ensureState(state ?? defaultState());
  const launch: Launch = { settings, env, mains, readyDeadlineMs, pace };
  if (detach) {
    await startDetached(paths, launch, report);
    return running(paths, savedSettings(paths), Promise.resolve());
  }
  const supervisor = await superviseHere(paths, launch, report);
  return running(paths, savedSettings(paths), supervisor.ended);
}

/**
 * Where `up` with the same options will keep images and disks, and where it expects a Ceph cluster of its own.
 * Throws SupervisorError, as `up` would.
 */
export function plannedStorage({ state, storage }: Pick<UpOptions, 'state' | 'storage'>): {
  storage: Storage;
  ownCeph: string;
} {
  const paths = ensureState(state ?? defaultState());
  return { storage: planSettings(paths, { storage }).resolved.storage, ownCeph: paths.ceph };
}

/** Becomes the supervisor: stops everything when this process is told to end. */
export async function superviseHere(paths: Paths, launch: Launch, report: (line: string) => void): Promise<Supervisor> {
  const supervisor = new Supervisor(paths, report);
  const stop = () => void supervisor.stop().catch(() => {});
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, stop);
  const release = () => {
    for (const signal of signals) process.off(signal, stop);
  };
  supervisor.ended.then(release, release);
  try {
    await supervisor.start(launch);
  } catch (error) {
    release();
    throw error;
  }
  return supervisor;
}

const running = (paths: Paths, settings: Settings, ended: Promise<void>): Running => ({
  state: paths.state,
  url: `http://${settings.listen === '0.0.0.0' ? '127.0.0.1' : settings.listen}:${portsOf(settings.port).gateway}`,
  adminTokenFile: paths.adminToken,
  settings,
  ended,
});

/** The program of a detached supervisor, built; also when this file is run from its source, in tests. */
const program = fileURLToPath(new URL('../dist/supervisor-process.js', import.meta.url));

async function startDetached(paths: Paths, launch: Launch, report: (line: string) => void): Promise<void> {
  const log = openSync(logFile(paths, 'supervisor'), 'a', 0o600);
  const child = spawn(process.execPath, [program, paths.state], {
    detached: true,
    cwd: '/',
    stdio: ['ignore', log, log, 'ipc'],
  });
  closeSync(log);
  const outcome = Promise.withResolvers<void>();
  child.on('message', (message: Message) => {
    if (message.kind === 'report') report(message.line);
    else if (message.kind === 'ready') outcome.resolve();
    else outcome.reject(fromMessage(paths, message));
  });
  child.once('error', outcome.reject);
  child.once('exit', (code, signal) => outcome.reject(died(paths, signal ?? `code ${code}`)));
  // Signals are passed on to the supervisor while it starts, because it is not in this terminal's session.
  const forward = () => void child.kill('SIGTERM');
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, forward);
  try {
    child.send(launch);
    await outcome.promise;
  } finally {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, forward);
    if (child.connected) child.disconnect();
    child.unref();
  }
}

const fromMessage = (paths: Paths, { code, message, remedy }: Extract<Message, { kind: 'failed' }>) =>
  code === 'supervisor.already_running'
    ? new AlreadyRunningError(paths.state)
    : new SupervisorError(code, message, remedy);

const died = (paths: Paths, how: string) =>
  new SupervisorError(
    'supervisor.child_failed',
    `The supervisor ended with ${how} before it was ready`,
    `Read ${logFile(paths, 'supervisor')}.`,
  );
