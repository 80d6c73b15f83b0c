import { natsConfig, natsPasswords, type ServiceName, serviceNames } from '@m2/contracts';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import type { ChildSpec } from './child.js';
import { readSecret, secretFiles, writePrivate } from './secrets.js';
import type { Paths } from './state.js';

/** NATS with JetStream, on loopback only, with one user per service; its configuration is written anew at each start. */
export function natsSpec(paths: Paths, port: number): ChildSpec {
  const config = join(paths.nats, 'nats.conf');
  const files = secretFiles(paths);
  const passwords = Object.fromEntries(serviceNames.map((name) => [name, readSecret(files.nats(name))]));
  writePrivate(join(paths.nats, 'passwords.conf'), natsPasswords(passwords as Record<ServiceName, string>));
  writePrivate(
    config,
    natsConfig({ listen: `127.0.0.1:${port}`, storeDirectory: paths.nats, include: 'passwords.conf' }),
  );
  return {
    name: 'nats',
    command: 'nats-server',
    package: 'nats-server',
    args: ['-c', config],
    env: { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` },
    port,
    ready: async () => (await greets(port)) || 'NATS',
    stopSignal: 'SIGTERM',
    stopDeadlineMs: { ready: 10_000, starting: 10_000 },
  };
}

/** A NATS server speaks first, with an INFO line, and only when it takes clients. */
function greets(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = createConnection({ host: '127.0.0.1', port, timeout: 2_000 });
  socket.once('data', (data) => resolve(data.toString('latin1').startsWith('INFO ')));
  socket.once('timeout', () => resolve(false));
  socket.once('error', () => resolve(false));
  socket.once('close', () => resolve(false));
  return promise.finally(() => socket.destroy());
}
