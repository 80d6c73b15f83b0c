import { chmodSync, mkdirSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { SupervisorError } from './errors.js';

/** True when we are root: then PostgreSQL, which refuses root, runs as a user of its own. */
export const weAreRoot = (): boolean => process.getuid?.() === 0;

/**
 * Where the embedded M2 keeps everything, unless told otherwise: `$M2_STATE`, else `m2` in the user's state directory (XDG Base Directory
 * Specification). For root it is /var/lib/m2: PostgreSQL's user could not reach a directory below /root.
 */
export function defaultState(env: NodeJS.ProcessEnv = process.env): string {
  if (env['M2_STATE']) return resolve(env['M2_STATE']);
  if (env['XDG_STATE_HOME']) return join(env['XDG_STATE_HOME'], 'm2');
  return weAreRoot() ? '/var/lib/m2' : join(homedir(), '.local/state/m2');
}

/** The files and directories below the state directory. */
export const pathsOf = (state: string) => ({
  state,
  config: join(state, 'config.json'),
  adminToken: join(state, 'admin-token'),
  secrets: join(state, 'secrets'),
  control: join(state, 'run/control.sock'),
  /** PostgreSQL's own directory: its data, and the socket that it listens on. */
  postgres: join(state, 'postgres'),
  nats: join(state, 'nats'),
  logs: join(state, 'logs'),
  storage: join(state, 'storage'),
  /** A Ceph cluster of this installation's own; whoever calls `up` with that storage starts it. */
  ceph: join(state, 'ceph'),
  targets: join(state, 'targets'),
  boot: join(state, 'boot'),
  bmc: join(state, 'bmc'),
});
export type Paths = ReturnType<typeof pathsOf>;

/** sun_path of struct sockaddr_un holds 108 bytes with its NUL (unix(7)). */
const maxSocketPath = 107;
/** What we make and keep closed; `postgres` belongs to PostgreSQL's user and is made with it. */
const directories = ['run', 'secrets', 'nats', 'logs', 'storage', 'targets', 'boot', 'bmc'];
/** What may be there before the first start: a file system mounted for the disks, for example. */
const ours = new Set([...directories, 'postgres', 'ceph', 'lost+found']);
/** The longest socket below the state directory: PostgreSQL's lock file beside it is longer still, but is a plain file. */
const longestSocket = 'postgres/.s.PGSQL.5432';

/**
 * Creates the state directory with its folders, and returns its real path. Only its owner may read it. When root owns it, PostgreSQL's user
 * has to pass through: then others may enter the directory but not list it, and each folder in it is closed by itself.
 * Throws `supervisor.state_unusable`.
 */
export function ensureState(wanted: string): Paths {
  try {
    mkdirSync(wanted, { recursive: true });
    const state = realpathSync(wanted);
    refuseForeign(state);
    const tooLong = Buffer.byteLength(join(state, longestSocket)) - maxSocketPath;
    if (tooLong > 0)
      throw new SupervisorError(
        'supervisor.state_unusable',
        `The path of the state directory ${state} is ${tooLong} bytes too long for the UNIX sockets in it`,
        'Choose a shorter one with --state.',
      );
    chmodSync(state, weAreRoot() ? 0o711 : 0o700);
    const paths = pathsOf(state);
    for (const name of directories) {
      mkdirSync(join(state, name), { recursive: true });
      chmodSync(join(state, name), 0o700);
    }
    // dnsmasq reads its boot files here after it gave up root; none of them is secret.
    if (weAreRoot()) chmodSync(paths.boot, 0o711);
    return paths;
  } catch (error) {
    if (error instanceof SupervisorError) throw error;
    throw new SupervisorError(
      'supervisor.state_unusable',
      `The state directory ${wanted} cannot be used: ${(error as Error).message}`,
      'Choose another one with --state, or M2_STATE.',
      { cause: error },
    );
  }
}

/** The state directory if there is one, without making it. */
export function findState(wanted: string): Paths | undefined {
  try {
    const paths = pathsOf(realpathSync(wanted));
    statSync(paths.logs);
    return paths;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Somebody's home directory, given by mistake, must not become ours: its permissions would be changed and `down` searches it. */
function refuseForeign(state: string): void {
  const names = readdirSync(state);
  const foreign = names.find((name) => !ours.has(name));
  if (foreign !== undefined && !names.includes('run'))
    throw new Error(`it holds ${foreign}, which is not M2's; give an empty or a new directory`);
  if (statSync(state).uid !== process.getuid?.()) throw new Error('it belongs to another user');
}
