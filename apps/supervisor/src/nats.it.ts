import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventStream, natsConfig, natsInbox, natsPasswords, type ServiceName, serviceNames } from '@m2/contracts';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Child } from './child.js';
import { jetStreamProblem, natsSpec } from './nats.js';
import { ensureSecrets, readSecret, secretFiles } from './secrets.js';
import { ensureState } from './state.js';
import { until } from './testing/installation.js';

let directory: string;
let server: ChildProcess | undefined;
const password = 'secret';

const freePort = async () => {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
};

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'm2js-'));
});
afterEach(async () => {
  if (server && server.exitCode === null && server.signalCode === null) {
    server.kill('SIGKILL');
    await once(server, 'exit');
  }
  rmSync(directory, { recursive: true, force: true });
});

const start = async (edit: (config: string) => string = (config) => config) => {
  const port = await freePort();
  const config = natsConfig({ listen: `127.0.0.1:${port}`, storeDirectory: directory, include: 'passwords.conf' });
  const passwords = Object.fromEntries(serviceNames.map((name) => [name, password])) as Record<ServiceName, string>;
  writeFileSync(join(directory, 'passwords.conf'), natsPasswords(passwords));
  writeFileSync(join(directory, 'nats.conf'), edit(config));
  server = spawn('nats-server', ['-c', join(directory, 'nats.conf')], { stdio: 'ignore' });
  await until('it answers', async () => (await jetStreamProblem(port, password)) !== 'NATS');
  return port;
};

describe('the look at JetStream', () => {
  it('finds nothing wrong with a server that has it, though there is no stream yet', async () => {
    expect(await jetStreamProblem(await start(), password)).toBeUndefined();
  });

  it('finds out that a server has given it up', async () => {
    const port = await start((config) => config.replaceAll(/^ *jetstream.*$/gm, ''));
    expect(await jetStreamProblem(port, password)).toMatch(/given up/);
  });

  it('finds out that its API does not answer', async () => {
    // A server that drops the question is all that is seen of one whose API hangs.
    const port = await start((config) => config.replaceAll('"$JS.API.STREAM.INFO.M2_EVENTS"', '"x"'));
    expect(await jetStreamProblem(port, password)).toBe('an answer of JetStream');
  });

  it('says nothing of JetStream when there is no server', async () => {
    expect(await jetStreamProblem(await freePort(), password)).toBe('NATS');
  });
});

/** Only root may mount, and not in every container. */
const mayMount = () => {
  const probe = mkdtempSync(join(tmpdir(), 'm2mnt-'));
  const isMounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', probe]).status === 0;
  if (isMounted) spawnSync('umount', [probe]);
  rmSync(probe, { recursive: true, force: true });
  return isMounted;
};

it.skipIf(!mayMount())(
  'NATS whose disk was full is started again, and takes events when there is room (needs root)',
  async () => {
    const paths = ensureState(directory);
    ensureSecrets(paths);
    const mount = (...options: string[]) =>
      execFileSync('mount', ['-t', 'tmpfs', '-o', options.join(','), 'tmpfs', paths.nats]);
    mount('size=3m');
    const port = await freePort();
    const lines: string[] = [];
    const child = new Child(natsSpec(paths, port), paths, (line) => lines.push(line), { hungMs: 1_000 });
    try {
      await child.start();
      const connection = await connect({
        servers: `127.0.0.1:${port}`,
        user: 'm2-gateway',
        pass: readSecret(secretFiles(paths).nats('gateway')),
        inboxPrefix: natsInbox('gateway'),
        maxReconnectAttempts: -1,
        reconnectTimeWait: 50,
      });
      const manager = await jetstreamManager(connection, { checkAPI: false });
      await manager.streams.add({ name: eventStream, subjects: ['m2.evt.>'] });
      const publish = () =>
        jetstream(connection).publish('m2.evt.gateway.project.created', 'x'.repeat(50_000), { timeout: 1_000 });
      await until('the disk is full', () =>
        publish().then(
          () => false,
          () => true,
        ),
      );
      await until('status says so', () => /JetStream/.test(child.status().waitsFor ?? ''));
      mount('remount', 'size=50m');
      await until('it was started again', () => child.status().restarts > 0);
      await until('it takes events', () =>
        publish().then(
          () => true,
          () => false,
        ),
      );
      expect(lines.join('\n')).toMatch(/nats hangs: it did not answer for \d+ s \(.*JetStream.*\)/);
      await connection.close();
    } finally {
      await child.stop();
      execFileSync('umount', [paths.nats]);
    }
  },
);

it('a part that goes on hanging is ended after longer and longer silences', async () => {
  const paths = ensureState(directory);
  const lines: string[] = [];
  const silences: number[] = [];
  let asked = 0;
  const child = new Child(
    {
      name: 'hangs',
      command: process.execPath,
      package: 'nodejs',
      args: ['-e', 'setInterval(() => {}, 1e6)'],
      env: {},
      health: async () => (asked++ % 50 === 0 ? { is: 'ready' } : { is: 'silent', for: 'an answer' }),
      stopSignal: 'SIGTERM',
      stopDeadlineMs: { ready: 1_000, starting: 1_000 },
    },
    paths,
    (line) => {
      lines.push(line);
      if (/hangs: it did not answer/.test(line)) {
        silences.push(lines.length);
        asked = 0;
      }
    },
    { hungMs: 100, longestBackoffMs: 1 },
  );
  await child.start();
  await until('it hung four times', () => silences.length >= 4);
  const patience = (child as unknown as { patienceMs: number }).patienceMs;
  await child.stop();
  expect(patience).toBeGreaterThanOrEqual(1_600);
});
