import { eventStream, imageDeleted } from '@m2/contracts';
import { jetstreamManager } from '@nats-io/jetstream';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { v7 as uuidv7 } from 'uuid';
import { Bus } from './bus.js';
import { Database } from './database.js';
import { withEvents } from './effects.js';
import { defaultLimits } from './event-stream.js';
import { EventConsumer } from './inbox.js';
import { Leases } from './leases.js';
import { Life } from './life.js';
import { makeLog } from './log.js';
import { OutboxRelay } from './outbox.js';
import type { ReceivedEvent } from './received-event.js';
import { sharedPostgres, startNats, type TestNats, type TestPostgres, until } from './testing/index.js';

/** Three servers of one cluster, which keep each event three times. */
const names = ['a', 'b', 'c'];
const log = makeLog('test', 'silent');
/** Elections (of the stream's leader, its consumer's, the cluster's) take seconds each, and on a busy machine more than one round. */
const patience = 120_000;
const servers = new Map<string, TestNats>();
let postgres: TestPostgres;
let database: Database;
let bus: Bus;
let life: Life;
let relay: OutboxRelay;
let consumer: EventConsumer;
const received: string[] = [];

/** Ports that the kernel has to spare: a server of a cluster has to know those of the others before they are there. */
async function sparePorts(count: number): Promise<number[]> {
  const listening = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      return server;
    }),
  );
  const ports = listening.map((server) => (server.address() as AddressInfo).port);
  for (const server of listening) server.close();
  return ports;
}

async function startCluster(): Promise<void> {
  const ports = await sparePorts(names.length);
  const routes = ports.map((port) => `"nats://127.0.0.1:${port}"`).join(', ');
  await Promise.all(
    names.map(async (name, at) => {
      const cluster = `cluster { name: "test", listen: "127.0.0.1:${ports[at]}", routes: [${routes}] }`;
      servers.set(name, await startNats({ config: `server_name: "${name}"\n${cluster}` }));
    }),
  );
}

const emit = (name: string) => {
  const id = uuidv7();
  const what = { id, project: id, name };
  return withEvents(database, async (_sql, tell) => tell(imageDeleted, what, { entity: id, project: id }));
};

const stream = async () => {
  const manager = await jetstreamManager(bus.connection, { checkAPI: false });
  return manager.streams.info(eventStream).catch(() => undefined);
};

beforeAll(async () => {
  [postgres] = await Promise.all([sharedPostgres(), startCluster()]);
  const url = await postgres.database();
  database = await Database.open({ url, poolSize: 10, applicationName: 'test', migrations: [], entities: [] });
  bus = await Bus.open({ service: 'image', url: [...servers.values()].map((server) => server.url).join(',') });
  life = await Life.begin(database, 'here', log);
  relay = new OutboxRelay(database, new Leases(database, life, log, () => {}), bus, log, 'image');
  const receive = async (events: ReceivedEvent[]) =>
    void received.push(...events.map(({ data }) => (data as { name: string }).name));
  const limits = { ...defaultLimits, replicas: 3, maxBytes: 8 * 1024 * 1024 };
  consumer = new EventConsumer(bus, database, log, { durable: 'gateway-audit', of: 'all' }, receive, limits);
  relay.start();
  consumer.start();
}, patience);
afterAll(async () => {
  await relay?.stop();
  await consumer?.stop();
  await life?.end();
  await bus?.close();
  await database?.close();
  await Promise.all([...servers.values()].map((server) => server.stop()));
  await postgres?.stop();
});

it(
  'events go on, each taken in once, when the server dies that leads their stream',
  async () => {
    await emit('before');
    await until('it has come', () => received.includes('before'));
    const made = await until('all servers have the stream', async () => {
      const { cluster, config } = (await stream()) ?? {};
      return cluster?.leader && cluster.replicas?.every(({ current }) => current) ? { cluster, config } : undefined;
    });
    expect([made.config?.num_replicas, made.cluster.replicas?.length]).toEqual([3, 2]);
    await servers.get(made.cluster.leader!)!.halt();
    await emit('after');
    relay.wake();
    await until('it has come, too', () => received.includes('after'), patience);
    expect(received).toEqual(['before', 'after']);
  },
  2 * patience,
);
