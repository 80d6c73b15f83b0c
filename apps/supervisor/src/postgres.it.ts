import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { promisify } from 'node:util';
import { type ServiceName, serviceNames } from '@m2/contracts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { status } from './index.js';
import { databaseAdmin, readSecret, secretFiles } from './secrets.js';
import { type Paths, pathsOf } from './state.js';
import { build, Installation } from './testing/installation.js';

const run = promisify(execFile);

let installation: Installation;
let paths: Paths;
beforeAll(async () => {
  build();
  installation = await Installation.make();
  const { state } = await installation.up();
  paths = pathsOf(state);
});
afterAll(() => installation.remove());

const psql = async (user: string, passwordOf: string, statement: string, database = 'm2') => {
  const env = { ...process.env, PGPASSWORD: readSecret(secretFiles(paths).database(passwordOf)) };
  const args = ['-X', '-A', '-t', '-w', '-h', paths.postgres, '-U', user, '-d', database, '-c', statement];
  return (await run('psql', args, { env })).stdout.trim();
};
const as = (service: ServiceName, statement: string, database?: string) =>
  psql(`m2_${service}`, service, statement, database);

describe('PostgreSQL of the embedded default', () => {
  it.each(serviceNames)('gives %s a schema of its own', async (service) => {
    const made =
      'CREATE TABLE mine (a int); SELECT schemaname FROM pg_tables WHERE tablename = $$mine$$ AND tableowner = current_user';
    expect(await as(service, made)).toContain(`m2_${service}`);
  });

  it('keeps a role out of everything else', async () => {
    await as('gateway', 'CREATE TABLE IF NOT EXISTS secret (a int)');
    const refused = [
      'SELECT * FROM m2_gateway.secret',
      'CREATE TABLE public.x (a int)',
      'CREATE SCHEMA mine',
      'CREATE ROLE x',
      'CREATE TEMPORARY TABLE x (a int)',
      'SET ROLE m2_gateway',
      `COPY (SELECT 1) TO PROGRAM 'true'`,
    ];
    for (const statement of refused)
      await expect(as('iscsi', statement)).rejects.toThrow(/permission denied|must be superuser/);
    await expect(as('iscsi', 'SELECT 1', 'postgres')).rejects.toThrow(/permission denied for database/);
    await expect(psql('m2_iscsi', 'gateway', 'SELECT 1')).rejects.toThrow(/password authentication failed/);
  });

  it('runs with what durability and speed need', async () => {
    const shown = await psql(
      databaseAdmin,
      databaseAdmin,
      `SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings
      WHERE name IN ('fsync', 'synchronous_commit', 'jit', 'max_connections', 'listen_addresses', 'password_encryption')`,
    );
    expect(shown).toBe(
      'fsync=on jit=off listen_addresses= max_connections=200 password_encryption=scram-sha-256 synchronous_commit=on',
    );
  });

  it('has no TCP port', async () => {
    const postmaster = (await status({ state: paths.state }))?.children.find(({ name }) => name === 'postgres')?.pid;
    const sockets = readdirSync(`/proc/${postmaster}/fd`).map((fd) => {
      try {
        return readlinkSync(`/proc/${postmaster}/fd/${fd}`);
      } catch {
        return '';
      }
    });
    const tcp = ['tcp', 'tcp6'].flatMap((kind) => readFileSync(`/proc/net/${kind}`, 'utf8').split('\n').slice(1));
    const inodes = new Set(tcp.map((line) => `socket:[${line.trim().split(/\s+/)[9]}]`));
    expect(sockets.some((socket) => socket.startsWith('socket:'))).toBe(true);
    expect(sockets.filter((socket) => inodes.has(socket))).toEqual([]);
  });
});
