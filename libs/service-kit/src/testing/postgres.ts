import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { until } from './until.js';

const run = promisify(execFile);

/** Debian keeps each version's programs here, away from PATH. */
const debianVersions = '/usr/lib/postgresql';
const locale = { LC_ALL: 'C.UTF-8' };

/** A PostgreSQL cluster of a test's own, reached over a UNIX socket, so that it needs no port. */
export interface TestPostgres {
  /** Makes an empty database; answers its URL. */
  database(): Promise<string>;
  /** Ends every connection but the one that does so, as a failover does. */
  cutConnections(): Promise<void>;
  /** Starts it again after `halt`, with what was committed. */
  start(): Promise<void>;
  /** As if the machine lost it: no goodbye to the clients. */
  halt(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts a cluster; a second or two. PostgreSQL refuses to run as root: then it runs as the user `postgres`. */
export async function startPostgres(): Promise<TestPostgres> {
  const user = process.getuid?.() === 0 ? await ids('postgres') : undefined;
  const directory = mkdtempSync(join(tmpdir(), 'm2-pg-'));
  chmodSync(directory, 0o700);
  if (user) chownSync(directory, user.uid, user.gid);
  const programs = newestPrograms();
  const data = join(directory, 'data');
  const quick = ['--no-sync', '--auth=trust', '-U', 'postgres', '-E', 'UTF8', '--locale=C.UTF-8'];
  await run(join(programs, 'initdb'), ['-D', data, ...quick], { ...user, env: locale, cwd: '/' });

  const launch = async () => {
    const settings = [
      'listen_addresses=',
      `unix_socket_directories=${directory}`,
      'max_connections=200',
      'fsync=off',
      'jit=off',
    ];
    const args = ['-D', data, ...settings.flatMap((setting) => ['-c', setting])];
    const child = spawn(join(programs, 'postgres'), args, { ...user, env: locale, cwd: '/', stdio: 'ignore' });
    await until('PostgreSQL accepts connections', () => {
      if (child.exitCode !== null) throw new Error('PostgreSQL did not start');
      return isReady(data, child.pid);
    });
    return child;
  };
  let server = await launch();
  // A test that is cut off must not leave a server behind.
  const atExit = () => server.kill('SIGKILL');
  process.on('exit', atExit);

  const urlOf = (name: string) => `postgres://postgres@localhost/${name}?host=${encodeURIComponent(directory)}`;
  const admin = (statement: string) =>
    run(join(programs, 'psql'), ['-X', '-q', '-h', directory, '-U', 'postgres', '-c', statement], { env: locale });
  let count = 0;
  const halt = async () => {
    if (server.exitCode !== null || server.signalCode !== null) return;
    const gone = once(server, 'exit');
    server.kill('SIGQUIT'); // immediate shutdown (PostgreSQL manual, 19.5)
    await gone;
  };
  return {
    async database() {
      const name = `m2_${++count}`;
      await admin(`CREATE DATABASE ${name}`);
      return urlOf(name);
    },
    async cutConnections() {
      const others = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname LIKE 'm2%'`;
      await admin(others);
    },
    async start() {
      server = await launch();
    },
    halt,
    async stop() {
      await halt();
      process.off('exit', atExit);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Line 1 of the postmaster's lock file is its process, line 8 its state, as pg_ctl reads them (miscadmin.h). */
function isReady(data: string, pid: number | undefined): boolean {
  try {
    const lines = readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n');
    return lines[0] === String(pid) && lines[7]?.trim() === 'ready';
  } catch {
    return false;
  }
}

function newestPrograms(): string {
  const [version] = readdirSync(debianVersions).sort((a, b) => Number(b) - Number(a));
  return join(debianVersions, version as string, 'bin');
}

async function ids(name: string): Promise<{ uid: number; gid: number }> {
  const [uid, gid] = await Promise.all(
    ['-u', '-g'].map(async (flag) => Number((await run('id', [flag, name])).stdout)),
  );
  return { uid: uid as number, gid: gid as number };
}
