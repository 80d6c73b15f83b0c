import { eventStream, natsConfig, natsInbox, natsPasswords, type ServiceName, serviceNames } from '@m2/contracts';
import { connect, RequestError } from '@nats-io/transport-node';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import type { ChildSpec, Health } from './child.js';
import { readSecret, secretFiles, writePrivate } from './secrets.js';
import type { Paths } from './state.js';

/** NATS with JetStream, on loopback only, with one user per service; its configuration is written anew at each start. */
export function natsSpec(paths: Paths, port: number): ChildSpec {
  const config = join(paths.nats, 'nats.conf');
  let wasUp = false;
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
    health: async (): Promise<Health> => {
      if (!(await greets(port))) return { is: wasUp ? 'silent' : 'absent', for: 'NATS' };
      // Nothing needs JetStream to start. Once NATS is up, what has become of it is known by asking.
      if (!wasUp) {
        wasUp = true;
        return { is: 'ready' };
      }
      const problem = await jetStreamProblem(port, passwords.gateway as string);
      return problem ? { is: 'silent', for: problem } : { is: 'ready' };
    },
    stopSignal: 'SIGTERM',
    stopDeadlineMs: { ready: 10_000, starting: 10_000 },
  };
}

const askDeadlineMs = 3_000;

/**
 * Asks JetStream's API for the event stream, as the gateway does. A server whose disk was full goes on with its other work, while this API hangs or is
 * gone until the server is started again. Returns what is wrong; an error is an answer too.
 */
export async function jetStreamProblem(port: number, password: string): Promise<string | undefined> {
  const connection = await connect({
    servers: `127.0.0.1:${port}`,
    user: 'm2-gateway',
    pass: password,
    name: 'm2-supervisor',
    inboxPrefix: natsInbox('gateway'),
    reconnect: false,
    timeout: askDeadlineMs,
  }).catch(() => undefined);
  // That it does not let us in is not JetStream's fault.
  if (!connection) return 'NATS';
  try {
    await connection.request(`$JS.API.STREAM.INFO.${eventStream}`, '', { timeout: askDeadlineMs });
    return undefined;
  } catch (error) {
    const isGone = error instanceof RequestError && error.isNoResponders();
    return isGone ? 'JetStream, which the server has given up' : 'an answer of JetStream';
  } finally {
    await connection.close();
  }
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
