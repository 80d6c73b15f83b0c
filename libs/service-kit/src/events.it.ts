import { diskDetached, events as catalogue, eventStream, imageDeleted, M2Error } from '@m2/contracts';
import { AckPolicy, jetstreamManager } from '@nats-io/jetstream';
import { headers } from '@nats-io/transport-node';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { v7 as uuidv7 } from 'uuid';
import { Bus } from './bus.js';
import { Database } from './database.js';
import { withEvents } from './effects.js';
import { Leases } from './leases.js';
import { Life } from './life.js';
import { defaultLimits, ensureEventStream } from './event-stream.js';
import { EventConsumer, type EventHandler } from './inbox.js';
import { makeLog } from './log.js';
import { OutboxRelay } from './outbox.js';
import type { ReceivedEvent } from './received-event.js';
import { sharedPostgres, startNats, type TestNats, type TestPostgres, until } from './testing/index.js';

let postgres: TestPostgres;
let nats: TestNats;
let database: Database;
let bus: Bus;
const log = makeLog('test', 'fatal');
const cleanUps: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  [postgres, nats] = await Promise.all([sharedPostgres(), startNats()]);
  bus = await Bus.open({ service: 'image', url: nats.url });
  const url = await postgres.database();
  database = await Database.open({ url, poolSize: 10, applicationName: 'test', migrations: [], entities: [] });
  await database.query('CREATE TABLE received (event uuid, sequence int)');
});
afterAll(async () => {
  await bus?.close();
  await database?.close();
  await Promise.all([postgres?.stop(), nats?.stop()]);
});
beforeEach(async () => {
  await database.query('TRUNCATE m2_outbox, m2_inbox, m2_parked_events, received');
  await ensureEventStream(bus);
});
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0)) await cleanUp();
  const manager = await jetstreamManager(bus.connection, { checkAPI: false });
  await manager.streams.delete(eventStream).catch(() => {});
});

/** A relay as a replica of the service has it. */
let replicas = 0;
const startRelay = async (to = log) => {
  const life = await Life.begin(database, `relay-${(replicas += 1)}`, log);
  const relay = new OutboxRelay(database, new Leases(database, life, log, () => {}), bus, to, 'image');
  relay.start();
  cleanUps.push(async () => {
    await relay.stop();
    await life.end();
  });
  return relay;
};

const startConsumer = (handler: EventHandler, { makesStream = false, durable = 'gateway-audit' } = {}) => {
  const consumer = new EventConsumer(
    bus,
    database,
    log,
    { durable, of: 'all' },
    handler,
    makesStream ? defaultLimits : undefined,
  );
  consumer.start();
  cleanUps.push(() => consumer.stop());
  return consumer;
};

/** Events of some entities in the order in which they are committed; each carries its number in its name. */
const emit = async (entities: string[], trace = 0) => {
  for (const [at, entity] of entities.entries())
    await withEvents(database, async (_sql, emitOne) =>
      emitOne(imageDeleted, { id: entity, project: entity, name: `n${trace + at}` }, { entity, project: entity }),
    );
};

const unpublished = async () =>
  Number((await database.query<{ n: string }>('SELECT count(*) AS n FROM m2_outbox WHERE published_at IS NULL'))[0]!.n);
const allPublished = () => until('the outbox is empty', async () => (await unpublished()) === 0);

interface Message {
  subject: string;
  header: (name: string) => string;
  data: { id: string; name: string };
}

const inStream = async (): Promise<Message[]> => {
  const manager = await jetstreamManager(bus.connection, { checkAPI: false });
  const { state } = await manager.streams.info(eventStream);
  const messages: Message[] = [];
  for (let seq = state.first_seq; seq <= state.last_seq; seq += 1) {
    const message = await manager.streams.getMessage(eventStream, { seq });
    if (message)
      messages.push({ subject: message.subject, header: (name) => message.header.get(name), data: message.json() });
  }
  return messages;
};

describe('the outbox', () => {
  it('reaches the stream in the order in which the events of an entity were committed', async () => {
    const [a, b] = [uuidv7(), uuidv7()];
    // More than a batch, so that one batch must not overtake another.
    await emit(Array.from({ length: 450 }, (_, at) => (at % 3 === 0 ? b : a)));
    await startRelay();
    await allPublished();
    const messages = await inStream();
    expect(messages).toHaveLength(450);
    for (const entity of [a, b]) {
      const numbers = messages.filter(({ data }) => data.id === entity).map(({ data }) => Number(data.name.slice(1)));
      expect(numbers).toEqual(numbers.toSorted((x, y) => x - y));
    }
  });

  it('sends CloudEvents in binary mode', async () => {
    const entity = uuidv7();
    await emit([entity]);
    await startRelay();
    await allPublished();
    const [message] = await inStream();
    const [row] = await database.query<{ id: string; created_at: Date }>('SELECT id, created_at FROM m2_outbox');
    expect(message!.subject).toBe(imageDeleted.subject);
    const { header } = message!;
    expect(header('ce-specversion')).toBe('1.0');
    expect([header('ce-id'), header('Nats-Msg-Id')]).toEqual([row!.id, row!.id]);
    expect([header('ce-source'), header('ce-type')]).toEqual(['/m2/image', 'image.image.deleted']);
    expect(header('ce-time')).toBe(row!.created_at.toISOString());
    expect([header('ce-subject'), header('ce-project')]).toEqual([entity, entity]);
    expect(header('content-type')).toBe('application/json');
  });

  it('is relayed by one of two replicas at a time, and once', async () => {
    const entity = uuidv7();
    const relays = [await startRelay(), await startRelay()];
    for (let round = 0; round < 20; round += 1) {
      await emit([entity, entity], round * 2);
      for (const relay of relays) relay.wake();
    }
    await allPublished();
    expect((await inStream()).map(({ data }) => data.name)).toEqual(Array.from({ length: 40 }, (_, at) => `n${at}`));
  });

  it('waits for NATS, and comes whole and in order when it is back', async () => {
    const entity = uuidv7();
    const relay = await startRelay();
    await emit([entity]);
    relay.wake();
    await allPublished();
    await nats.halt();
    await emit([entity, entity, entity], 1);
    relay.wake();
    expect(await unpublished()).toBe(3);
    await nats.start();
    await allPublished();
    expect((await inStream()).map(({ data }) => data.name)).toEqual(['n0', 'n1', 'n2', 'n3']);
  });

  it('sent again by a relay that died before it marked it leaves no second copy in the stream', async () => {
    await emit([uuidv7(), uuidv7()]);
    const relay = await startRelay();
    await allPublished();
    await database.query('UPDATE m2_outbox SET published_at = NULL');
    relay.wake();
    await allPublished();
    expect(await inStream()).toHaveLength(2);
  });

  it('does not hammer a server that takes nothing', async () => {
    const manager = await jetstreamManager(bus.connection, { checkAPI: false });
    await manager.streams.delete(eventStream);
    await emit(Array.from({ length: 250 }, () => uuidv7()));
    let warnings = 0;
    const counting = makeLog('test', 'warn', { write: () => (warnings += 1) } as never);
    await startRelay(counting);
    await until('it has tried twice', () => warnings >= 2);
    // Two sweeps, and not as often as the server can say no.
    expect(warnings).toBeLessThan(10);
    await ensureEventStream(bus);
    await allPublished();
  });
});

/** A handler that keeps what it gets, in the transaction that it gets it in. */
const keeper = () => {
  const seen: ReceivedEvent[] = [];
  const handler: EventHandler = async (received, sql) => {
    for (const event of received) {
      seen.push(event);
      await sql.query('INSERT INTO received VALUES ($1, $2)', [event.id, Number(String(event.data['name']).slice(1))]);
    }
  };
  return { seen, handler };
};
const received = async () =>
  (await database.query<{ sequence: number }>('SELECT sequence FROM received ORDER BY sequence')).map(
    (row) => row.sequence,
  );

/** A message as a careless or hostile service sends it. */
const publish = async (attributes: Record<string, string>, data: unknown, subject = imageDeleted.subject) => {
  const meta = headers();
  for (const [name, value] of Object.entries(attributes)) meta.set(name, value);
  await bus.js.publish(subject, typeof data === 'string' ? data : JSON.stringify(data), { headers: meta });
};
const wellFormed = () => ({
  'ce-id': uuidv7(),
  'ce-type': imageDeleted.type,
  'ce-time': new Date().toISOString(),
  'ce-subject': 'x',
});
const data = (number: number) => {
  const id = uuidv7();
  return { id, project: id, name: `n${number}` };
};

const parked = () =>
  database.query<{ consumer: string; type: string; error: string; tries: number }>(
    'SELECT consumer, type, error, tries FROM m2_parked_events',
  );

describe('an event that fails its handler', () => {
  const poison = 66;
  const failing = (handler: EventHandler, error: () => Error): EventHandler => {
    return async (received, sql) => {
      await handler(received, sql);
      if (received.some(({ data: { name } }) => name === `n${poison}`)) throw error();
    };
  };

  it('is parked after five tries, keeps nobody from coming in, and comes in when the program is corrected', async () => {
    const { handler } = keeper();
    for (const number of [1, poison, 2]) await publish(wellFormed(), data(number));
    const consumer = startConsumer(failing(handler, () => new Error('cannot take it')));
    await until('the others are in', async () => (await received()).length === 2);
    await until('it is parked', async () => (await parked()).length > 0);
    expect(await parked()).toEqual([
      { consumer: 'gateway-audit', type: imageDeleted.type, error: 'cannot take it', tries: 5 },
    ]);
    await publish(wellFormed(), data(3));
    await until('the next one is in', async () => (await received()).includes(3));
    await consumer.stop();
    startConsumer(failing(handler, () => new Error('still not'))); // the same program, started again
    await until('it was tried again', async () => (await parked())[0]?.error === 'still not');
    startConsumer(handler);
    await until('it is in', async () => (await received()).includes(poison));
    await until('it is parked no more', async () => (await parked()).length === 0);
    expect(await received()).toEqual([1, 2, 3, poison]);
  });

  it('because something is away comes again for as long as that takes', async () => {
    const { handler } = keeper();
    let tries = 0;
    const away = new M2Error('service.unavailable', 'The service is away');
    startConsumer(async (events, sql) => {
      if (++tries < 7) throw away;
      await handler(events, sql);
    });
    await publish(wellFormed(), data(poison));
    await until('it is in', async () => (await received()).includes(poison));
    expect(await parked()).toEqual([]);
  });
});

it('the type of an event is its subject, whatever a header says', async () => {
  const { seen, handler } = keeper();
  startConsumer(handler);
  await publish({ ...wellFormed(), 'ce-type': 'gateway.project.deleted' }, data(1));
  await until('it is in', () => seen.length > 0);
  expect(seen[0]!.type).toBe(imageDeleted.type);
});

describe('an event that is too large for the stream', () => {
  it('is parked, and those behind it go on', async () => {
    const entity = uuidv7();
    await database.query(
      `INSERT INTO m2_outbox (id, type, entity, data) VALUES ($1, $2, $3, jsonb_build_object('name', repeat('x', 2000000)))`,
      [uuidv7(), imageDeleted.type, entity],
    );
    await emit([entity]);
    startRelay();
    await allPublished();
    expect(await inStream()).toHaveLength(1);
    expect(await parked()).toMatchObject([{ consumer: 'outbox', type: imageDeleted.type }]);
  });
});

describe('an event that no message can carry', () => {
  it.each([
    ['a line break in what it is about', 'one\ntwo'],
    ['more about it than a message has room for', 'x'.repeat(2_000_000)],
  ])('with %s is parked, and those behind it go on', async (_, entity) => {
    const rows = Array.from({ length: 200 }, () => ({ id: uuidv7(), entity }));
    await database.query(
      `INSERT INTO m2_outbox (id, type, entity, data)
       SELECT id, $2, entity, '{}' FROM jsonb_to_recordset($1::jsonb) AS e(id uuid, entity text)`,
      [JSON.stringify(entity.length > 100 ? rows.slice(0, 2) : rows), imageDeleted.type],
    );
    await emit([uuidv7()]);
    await startRelay();
    await allPublished();
    expect(await inStream()).toHaveLength(1);
    expect((await parked())[0]).toMatchObject({ consumer: 'outbox', type: imageDeleted.type });
  });
});

describe('an event that this version does not know', () => {
  it.each([
    ['of an unknown type', 'm2.evt.image.image.exploded', () => data(1) as object],
    ['with other data', imageDeleted.subject, () => ({ id: 1 })],
  ])('%s is kept for a version that does', async (_, subject, of) => {
    const { seen, handler } = keeper();
    startConsumer(handler);
    await publish(wellFormed(), of(), subject);
    await publish(wellFormed(), data(2));
    await until('the other one is in', async () => (await received()).length > 0);
    await until('it is parked', async () => (await parked()).length > 0);
    expect(await parked()).toMatchObject([{ consumer: 'gateway-audit', type: subject.slice('m2.evt.'.length) }]);
    expect(seen).toHaveLength(1);
  });
});

describe('turns of replicas', () => {
  it('cannot be held by another role of the database', async () => {
    const session = await database.session();
    // Any role may take any number.
    for (const name of ['m2_outbox ', 'm2_migrations ', 'm2 events '])
      await session.query(`SELECT pg_advisory_lock(hashtextextended('${name}' || current_schema(), 0))`);
    await emit([uuidv7()]);
    startRelay();
    await allPublished();
    expect(await inStream()).toHaveLength(1);
    session.release(true);
  });
});

describe('the stream', () => {
  const info = async () => (await jetstreamManager(bus.connection, { checkAPI: false })).streams.info(eventStream);

  it('loses nothing when an acknowledgement is asked for at JetStream’s own API', async () => {
    await publish(wellFormed(), data(1));
    for (const order of ['STREAM.PURGE', 'STREAM.DELETE', 'STREAM.MSG.DELETE', 'STREAM.UPDATE'])
      bus.connection.publish(imageDeleted.subject, '{}', { reply: `$JS.API.${order}.${eventStream}` });
    await bus.connection.flush();
    // The server works through what it gets in order.
    await publish(wellFormed(), data(2));
    expect((await info()).state.messages).toBe(6);
  });

  it('of an older version gets the limits of this one, and keeps what it holds', async () => {
    const manager = await jetstreamManager(bus.connection, { checkAPI: false });
    await manager.streams.delete(eventStream);
    await manager.streams.add({ name: eventStream, subjects: ['m2.evt.>'], max_age: 1e9 * 3_600 });
    await publish(wellFormed(), data(1));
    await ensureEventStream(bus, { replicas: 1, maxBytes: 5_000_000, maxAgeHours: 2 });
    const { config, state } = await info();
    expect(config).toMatchObject({ max_bytes: 5_000_000, max_age: 7_200e9, deny_purge: true, deny_delete: true });
    expect(state.messages).toBe(1);
  });

  it('goes on with its old limits where the servers refuse the new ones', async () => {
    const refused: unknown[] = [];
    await ensureEventStream(bus, { ...defaultLimits, maxBytes: 1e15 }, (error) => refused.push(error));
    expect(refused).toHaveLength(1);
    expect((await info()).config.max_bytes).toBe(defaultLimits.maxBytes);
  });
});

describe('the inbox', () => {
  it('takes in each event once, though it is delivered twice', async () => {
    const { seen, handler } = keeper();
    startConsumer(handler);
    const attributes = wellFormed();
    await publish(attributes, data(0));
    await publish(attributes, data(0)); // no Nats-Msg-Id: the stream keeps both
    await publish(wellFormed(), data(1));
    await until('the last one is in', async () => (await received()).includes(1));
    expect(await received()).toEqual([0, 1]);
    expect(seen.map(({ type, entity, project }) => ({ type, entity, project }))[0]).toEqual({
      type: imageDeleted.type,
      entity: 'x',
      project: null,
    });
  });

  it('of two consumers is two: each takes in all', async () => {
    const [one, two] = [keeper(), keeper()];
    startConsumer(one.handler, { durable: 'gateway-audit' });
    startConsumer(two.handler, { durable: 'iscsi-reattached' });
    await publish(wellFormed(), data(7));
    await until('both have it', () => one.seen.length > 0 && two.seen.length > 0);
    expect([one.seen.length, two.seen.length]).toEqual([1, 1]);
  });

  it('gets an event again when its handler failed, with nothing of the failed try left', async () => {
    const { handler } = keeper();
    let failures = 0;
    startConsumer(async (events, sql) => {
      await handler(events, sql);
      if (failures++ < 2) throw new Error('not yet');
    });
    await publish(wellFormed(), data(3));
    await until('it is in', async () => (await received()).length > 0);
    expect(await received()).toEqual([3]);
    expect(failures).toBe(3);
  });

  it('passes over what is no CloudEvent, and puts aside what PostgreSQL cannot keep', async () => {
    const { seen, handler } = keeper();
    startConsumer(handler);
    const good = wellFormed();
    await publish({}, 'not JSON');
    await publish(good, 'not JSON');
    await publish(good, '[1]');
    await publish(wellFormed(), { nothing: '\0' }, 'm2.evt.toString');
    await publish({ ...good, 'ce-id': 'not-a-uuid' }, data(0));
    await publish({ ...good, 'ce-time': 'yesterday' }, data(0));
    await publish({ ...good, 'ce-project': 'mine' }, data(0));
    await publish(wellFormed(), data(9));
    await until('the good one is in', async () => (await received()).length > 0);
    expect(await received()).toEqual([9]);
    expect(seen).toHaveLength(1);
    const manager = await jetstreamManager(bus.connection, { checkAPI: false });
    // Acknowledged, and forgotten: none of them comes back.
    await until('all are acknowledged', async () => {
      const info = await manager.consumers.info(eventStream, 'gateway-audit');
      return info.num_ack_pending === 0 && info.num_pending === 0;
    });
    expect(await parked()).toMatchObject([{ type: 'toString', tries: 5 }]);
  });

  it('goes on after NATS was away', async () => {
    const { handler } = keeper();
    startConsumer(handler);
    await publish(wellFormed(), data(1));
    await until('the first is in', async () => (await received()).length === 1);
    await nats.halt();
    await nats.start();
    await until('the second is in', async () => {
      if ((await received()).length === 2) return true;
      await publish(wellFormed(), data(2)).catch(() => {});
      return (await received()).includes(2);
    });
    expect(new Set(await received())).toEqual(new Set([1, 2]));
  });

  it('makes stream and consumer again after NATS lost its state', async () => {
    const { handler } = keeper();
    startConsumer(handler, { makesStream: true });
    await publish(wellFormed(), data(1));
    await until('the first is in', async () => (await received()).length === 1);
    const manager = await jetstreamManager(bus.connection, { checkAPI: false });
    await manager.streams.delete(eventStream);
    const relay = await startRelay();
    await emit([uuidv7()], 5);
    relay.wake();
    await until('the event that waited in the outbox is in', async () => (await received()).length > 1);
    expect(await received()).toEqual([1, 5]);
  });

  it('stops at once, also while there is no stream to consume', async () => {
    const manager = await jetstreamManager(bus.connection, { checkAPI: false });
    await manager.streams.delete(eventStream);
    const consumer = startConsumer(keeper().handler);
    await consumer.stop();
    await expect(manager.consumers.info(eventStream, 'gateway-audit')).rejects.toThrow(/stream not found/);
  });
});

it('the stream keeps every event of the catalogue, and is made once by all', async () => {
  await Promise.all([ensureEventStream(bus), ensureEventStream(bus)]);
  const manager = await jetstreamManager(bus.connection, { checkAPI: false });
  const { config } = await manager.streams.info(eventStream);
  expect(config.subjects).toEqual(['m2.evt.>']);
  for (const { subject } of catalogue) expect(subject.startsWith('m2.evt.')).toBe(true);
  await manager.consumers.add(eventStream, {
    durable_name: 'x',
    ack_policy: AckPolicy.Explicit,
    filter_subject: diskDetached.subject,
  });
});
