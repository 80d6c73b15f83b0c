import { execFile } from 'node:child_process';
import { chmodSync, chownSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type ServiceName, serviceNames } from '@m2/contracts';
import type { ChildSpec, Health } from './child.js';
import { SupervisorError } from './errors.js';
import { databaseAdmin, readSecret, secretFiles, writePrivate } from './secrets.js';
import { type Paths, weAreRoot } from './state.js';

const run = promisify(execFile);

/** Debian keeps each version's programs here, away from PATH. */
const debianVersions = '/usr/lib/postgresql';
const deployFiles = fileURLToPath(new URL('../../../deploy/postgres/', import.meta.url));
const startDeadlineMs = 60_000;
const locale = { LC_ALL: 'C.UTF-8' };

/** PostgreSQL of the embedded default: its own cluster in the state directory, reached over a UNIX socket only. */
export class Postgres {
  private readonly data: string;
  private readonly programs: string;

  private constructor(
    private readonly paths: Paths,
    /** PostgreSQL refuses to run as root; this is who it runs as then. */
    private readonly user: { uid: number; gid: number } | undefined,
  ) {
    this.data = join(paths.postgres, 'data');
    this.programs = findPrograms(this.data);
  }

  /** Makes the cluster when there is none. Throws `supervisor.program_missing` or `supervisor.state_unusable`. */
  static async prepare(paths: Paths): Promise<Postgres> {
    const postgres = new Postgres(paths, weAreRoot() ? await debianUser() : undefined);
    await postgres.ensureDirectory();
    await postgres.ensureCluster();
    return postgres;
  }

  /** What a service connects to; the role's password goes beside it, in a file. */
  static url(paths: Paths, service: ServiceName): string {
    return `postgres://m2_${service}@localhost/m2?host=${encodeURIComponent(paths.postgres)}`;
  }

  get spec(): ChildSpec {
    return {
      name: 'postgres',
      command: join(this.programs, 'postgres'),
      package: 'postgresql',
      args: ['-D', this.data, '-c', `unix_socket_directories=${this.paths.postgres}`, '-c', 'listen_addresses='],
      env: locale,
      user: this.user,
      health: async (pid): Promise<Health> => {
        if (!isAccepting(this.data, pid)) return { is: 'waiting', for: 'PostgreSQL' };
        return (await answers(join(this.paths.postgres, '.s.PGSQL.5432')))
          ? { is: 'ready' }
          : { is: 'silent', for: 'an answer of PostgreSQL' };
      },
      // Fast shutdown: connections are cut, what was committed is kept (PostgreSQL manual, 19.5).
      stopSignal: 'SIGINT',
      stopDeadlineMs: { ready: 60_000, starting: 60_000 },
    };
  }

  /** Makes the database, roles and schemas; safe to repeat. */
  async bootstrap(): Promise<void> {
    const files = secretFiles(this.paths);
    const passwords = Object.fromEntries(
      serviceNames.map((name) => [`M2_DATABASE_PASSWORD_${name.toUpperCase()}`, readSecret(files.database(name))]),
    );
    await run(
      join(this.programs, 'psql'),
      [
        '-X',
        '-q',
        '-w',
        '-h',
        this.paths.postgres,
        '-U',
        databaseAdmin,
        '-f',
        join(deployFiles, 'bootstrap.sql'),
        'postgres',
      ],
      {
        env: { ...locale, ...passwords, PGPASSWORD: readSecret(files.database(databaseAdmin)) },
        timeout: startDeadlineMs,
      },
    ).catch((error: { stderr?: string }) => {
      throw new SupervisorError(
        'supervisor.child_failed',
        `The database could not be prepared: ${error.stderr?.trim() || String(error)}`,
        'Read logs/postgres.log in the state directory.',
        { cause: error },
      );
    });
  }

  private async ensureDirectory(): Promise<void> {
    mkdirSync(this.paths.postgres, { recursive: true });
    chmodSync(this.paths.postgres, 0o700);
    if (!this.user) return;
    chownSync(this.paths.postgres, this.user.uid, this.user.gid);
    try {
      await run('test', ['-w', this.paths.postgres], { ...this.user, cwd: '/' });
    } catch (error) {
      throw new SupervisorError(
        'supervisor.state_unusable',
        `PostgreSQL does not run as root, and the user postgres cannot reach ${this.paths.postgres}: a directory above is closed`,
        `Choose a state directory below an open one, as in --state /var/lib/m2, or run M2 as an ordinary user.`,
        { cause: error },
      );
    }
  }

  private async ensureCluster(): Promise<void> {
    // initdb writes this file early and global/pg_control late. Without the latter it was interrupted, and there is no data to lose.
    if (!existsSync(join(this.data, 'global/pg_control'))) {
      rmSync(this.data, { recursive: true, force: true });
      await this.initialize();
    }
    const config = join(this.data, 'postgresql.conf');
    copyFileSync(join(deployFiles, 'postgresql.conf'), config);
    if (this.user) chownSync(config, this.user.uid, this.user.gid);
  }

  private async initialize(): Promise<void> {
    // A copy that initdb can read when it is not us.
    const passwordFile = join(this.paths.postgres, 'initdb-password');
    writePrivate(passwordFile, readSecret(secretFiles(this.paths).database(databaseAdmin)));
    if (this.user) chownSync(passwordFile, this.user.uid, this.user.gid);
    try {
      await run(
        join(this.programs, 'initdb'),
        [
          '-D',
          this.data,
          '-U',
          databaseAdmin,
          `--pwfile=${passwordFile}`,
          '--auth=scram-sha-256',
          '-E',
          'UTF8',
          '--locale=C.UTF-8',
        ],
        { ...this.user, env: locale, cwd: '/', timeout: startDeadlineMs },
      );
    } catch (error) {
      rmSync(this.data, { recursive: true, force: true });
      throw new SupervisorError(
        'supervisor.state_unusable',
        `PostgreSQL's directory could not be made: ${(error as { stderr?: string }).stderr?.trim() || String(error)}`,
        'Check the free space and the permissions of the state directory.',
        { cause: error },
      );
    } finally {
      rmSync(passwordFile, { force: true });
    }
  }
}

/**
 * Reads the postmaster's lock file, as pg_ctl does: line 1 is its process, line 8 its state (miscadmin.h). The file of a killed one
 * still says ready, so the process is checked too.
 */
function isAccepting(data: string, pid: number): boolean {
  try {
    const lines = readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n');
    return lines[0] === String(pid) && lines[7]?.trim() === 'ready';
  } catch {
    return false;
  }
}

const answerDeadlineMs = 5_000;
/** Asks whether it speaks TLS (PostgreSQL manual, 55.7, SSLRequest): the one question that needs no user, and leaves nothing in the log. */
const question = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);

function answers(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = createConnection({ path, timeout: answerDeadlineMs });
  socket.once('connect', () => socket.write(question));
  socket.once('data', () => resolve(true));
  for (const event of ['timeout', 'error', 'close']) socket.once(event, () => resolve(false));
  return promise.finally(() => socket.destroy());
}

/** The programs of the version that the data was made by; for new data, the newest there is. */
function findPrograms(data: string): string {
  const versionFile = join(data, 'PG_VERSION');
  const made = existsSync(versionFile) ? readFileSync(versionFile, 'utf8').trim() : undefined;
  const installed = existsSync(debianVersions) ? readdirSync(debianVersions) : [];
  const version = made ?? installed.sort((a, b) => Number(b) - Number(a))[0];
  const programs = join(debianVersions, version ?? '', 'bin');
  if (version !== undefined && existsSync(join(programs, 'initdb'))) return programs;
  throw new SupervisorError(
    'supervisor.program_missing',
    made ? `The state directory is PostgreSQL ${made}'s, which is not installed` : 'PostgreSQL is not installed',
    `Install the Debian package postgresql${made ? `-${made}` : ''}.`,
  );
}

/** The user that Debian's package made. */
async function debianUser(): Promise<{ uid: number; gid: number }> {
  try {
    const [uid, gid] = await Promise.all(
      ['-u', '-g'].map(async (flag) => Number((await run('id', [flag, 'postgres'])).stdout)),
    );
    return { uid: uid as number, gid: gid as number };
  } catch (error) {
    throw new SupervisorError(
      'supervisor.program_missing',
      'PostgreSQL does not run as root, and there is no user postgres to run it as',
      'Install the Debian package postgresql, which makes that user, or run M2 as an ordinary user.',
      { cause: error },
    );
  }
}
