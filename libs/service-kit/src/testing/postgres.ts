import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { testRun } from './test-run.js';
import { until } from './until.js';

const run = promisify(execFile);

/** Debian keeps each version's programs here, away from PATH. */
const debianVersions = '/usr/lib/postgresql';
const locale = { LC_ALL: 'C.UTF-8' };

/** A PostgreSQL server, reached over a UNIX socket, so that it needs no port. */
export interface TestPostgres {
  /** Makes an empty database; answers its URL. */
  database(): Promise<string>;
  /** The test file needs it no more. */
  stop(): Promise<void>;
}

/** A server that no other test file uses, so that it can be taken away. */
export interface OwnPostgres extends TestPostgres {
  /** Ends every connection to the databases that were made here, as a failover does. */
  cutConnections(): Promise<void>;
  /** Starts it again after `halt`, with what was committed. */
  start(): Promise<void>;
  /** As if the machine lost it: no goodbye to the clients. */
  halt(): Promise<void>;
}

/**
 * The server that all test files of a run use, each with databases of its own. The first file that asks for it starts it; it ends with
 * the run.
 */
export async function sharedPostgres(): Promise<TestPostgres> {
  const directory = join(testRun(), 'postgres');
  if (isFirst(directory)) {
    const server = await PostgresServer.create(directory);
    await server.launch();
  }
  // Another test file may have made the directory, and be starting the server.
  await until('the shared PostgreSQL accepts connections', () => isReady(directory));
  return { database: () => createDatabase(directory), stop: async () => {} };
}

/** A server of a test file's own, for tests that halt it or cut its connections; a second or two. */
export async function startPostgres(): Promise<OwnPostgres> {
  const directory = mkdtempSync(join(testRun(), 'own-postgres-'));
  const server = await PostgresServer.create(directory);
  let running = await server.launch();
  const halt = async () => {
    if (running.exitCode !== null || running.signalCode !== null) return;
    const gone = once(running, 'exit');
    running.kill('SIGQUIT'); // immediate shutdown (PostgreSQL manual, 19.5)
    await gone;
  };
  return {
    database: () => createDatabase(directory),
    async cutConnections() {
      const others = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname LIKE 'm2%'`;
      await admin(directory, others);
    },
    async start() {
      running = await server.launch();
    },
    halt,
    async stop() {
      await halt();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** The data of a server. PostgreSQL refuses to run as root: then it runs as the user `postgres`. */
class PostgresServer {
  private constructor(
    private readonly directory: string,
    private readonly user: { uid: number; gid: number } | undefined,
  ) {}

  static async create(directory: string): Promise<PostgresServer> {
    const user = process.getuid?.() === 0 ? await ids('postgres') : undefined;
    chmodSync(directory, 0o700);
    if (user) chownSync(directory, user.uid, user.gid);
    const quick = ['--no-sync', '--auth=trust', '-U', 'postgres', '-E', 'UTF8', '--locale=C.UTF-8'];
    await run(program('initdb'), ['-D', dataOf(directory), ...quick], { ...user, env: locale, cwd: '/' });
    return new PostgresServer(directory, user);
  }

  /** Resolves when it accepts connections. It does not end with this process, but with the run of the tests. */
  async launch(): Promise<ChildProcess> {
    const settings = [
      'listen_addresses=',
      `unix_socket_directories=${this.directory}`,
      // All the services of as many test files as run at a time.
      'max_connections=1000',
      'fsync=off',
      'jit=off',
    ];
    const args = ['-D', dataOf(this.directory), ...settings.flatMap((setting) => ['-c', setting])];
    const options = { ...this.user, env: locale, cwd: '/', stdio: 'ignore', detached: true } as const;
    const server = spawn(program('postgres'), args, options);
    server.unref();
    await until('PostgreSQL accepts connections', () => {
      if (server.exitCode !== null) throw new Error('PostgreSQL did not start');
      return isReady(this.directory, server.pid);
    });
    return server;
  }
}

async function createDatabase(directory: string): Promise<string> {
  const name = `m2_${randomBytes(6).toString('hex')}`;
  await admin(directory, `CREATE DATABASE ${name}`);
  return `postgres://postgres@localhost/${name}?host=${encodeURIComponent(directory)}`;
}

const admin = (directory: string, statement: string) =>
  run(program('psql'), ['-X', '-q', '-h', directory, '-U', 'postgres', '-c', statement], { env: locale });

/** Of all test files that ask, one makes the directory. */
function isFirst(directory: string): boolean {
  try {
    mkdirSync(directory);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

const dataOf = (directory: string) => join(directory, 'data');

/** Line 1 of the postmaster's lock file is its process, line 8 its state, as pg_ctl reads them (miscadmin.h). */
function isReady(directory: string, pid?: number): boolean {
  try {
    const lines = readFileSync(join(dataOf(directory), 'postmaster.pid'), 'utf8').split('\n');
    return (pid === undefined || lines[0] === String(pid)) && lines[7]?.trim() === 'ready';
  } catch {
    return false;
  }
}

/** Of the newest version that is installed. */
function program(name: string): string {
  const [version] = readdirSync(debianVersions).sort((a, b) => Number(b) - Number(a));
  return join(debianVersions, version as string, 'bin', name);
}

async function ids(name: string): Promise<{ uid: number; gid: number }> {
  const [uid, gid] = await Promise.all(
    ['-u', '-g'].map(async (flag) => Number((await run('id', [flag, name])).stdout)),
  );
  return { uid: uid as number, gid: gid as number };
}
