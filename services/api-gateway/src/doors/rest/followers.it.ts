import { diskCreate, type projectCreated } from '@m2/contracts';
import { until } from '@m2/service-kit/testing';
import { once } from 'node:events';
import { Agent, get, type IncomingMessage } from 'node:http';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { Audit } from '../../events/audit.js';
import { Live } from '../../operations/live.js';
import { OpenAnswers } from '../../access/open-answers.js';
import { readEvents } from '../../testing/events.js';
import { adminToken, openGateway, type OperationBody, type TestGateway } from '../../testing/gateway.js';

let gateway: TestGateway;
let count = 0;
const agent = new Agent({ maxSockets: Infinity });
const sockets = new Set<IncomingMessage>();

beforeAll(async () => {
  gateway = await openGateway();
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  vi.restoreAllMocks();
  await until('nobody is left', () => open().size === 0);
});
afterAll(async () => {
  agent.destroy();
  await gateway?.close();
});

const open = () => gateway.app.get(OpenAnswers);
/** Subscriptions of the gateway's own connection to NATS. */
const subscriptions = () =>
  (gateway.kit.bus.connection as unknown as { protocol: { subscriptions: { subs: Map<number, unknown> } } }).protocol
    .subscriptions.subs.size;

/** A follower that reads bytes and nothing more: 400 of them must not be what is measured. */
const follow = async (path: string, token = adminToken, origin = gateway.origin): Promise<IncomingMessage> => {
  const request = get(`${origin}${path}`, {
    agent,
    headers: { accept: 'text/event-stream', authorization: `Bearer ${token}` },
  });
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  response.on('error', () => {});
  sockets.add(response);
  return response;
};
const followMany = (many: number, path: string) => Promise.all(Array.from({ length: many }, () => follow(path)));
/** Resolves when the follower was told of the text. */
const told = (response: IncomingMessage, text: string) => {
  const seen = Promise.withResolvers<void>();
  let rest = '';
  response.setEncoding('utf8').on('data', (part: string) => {
    rest += part;
    if (rest.includes(text)) seen.resolve();
    rest = rest.slice(-text.length);
  });
  return seen.promise;
};
const newProject = async (): Promise<string> => {
  const name = `p-${(count += 1)}`;
  await gateway.project(name);
  return name;
};
/** How often what matches was asked of the database while `work` ran. */
const queriesOf = async (pattern: RegExp, work: () => Promise<unknown>): Promise<number> => {
  const spy = vi.spyOn(gateway.kit.database, 'query');
  await work();
  const asked = spy.mock.calls.filter(([text]) => pattern.test(text)).length;
  spy.mockRestore();
  return asked;
};

describe('400 followers of the events', () => {
  it('cost the queries of one, and leave nothing behind', async () => {
    let before = 0;
    /** Ten events, each of which every follower has before the next one happens. */
    const tenEvents = async (followers: IncomingMessage[]) => {
      for (let at = 0; at < 10; at += 1) {
        const name = `p-${count + 1}`;
        const all = Promise.all(followers.map((follower) => told(follower, `"name":"${name}"`)));
        await newProject();
        await all;
      }
    };
    const reads = /FROM events/;
    const path = '/v1/events?type=gateway.project.created' satisfies `/v1/events?type=${typeof projectCreated.type}`;
    const costs: number[] = [];
    // The first pass also opens what the gateway itself listens to.
    for (const many of [1, 400]) {
      const started = performance.now();
      const followers = await followMany(many, path);
      const joined = await queriesOf(reads, () => tenEvents(followers));
      // The poll of each second is not the followers'.
      costs.push(joined - Math.floor((performance.now() - started) / 1_000));
      expect(gateway.app.get(Audit).followers).toBe(many);
      for (const follower of followers) follower.destroy();
      await until('all are gone', () => gateway.app.get(Audit).followers === 0 && open().size === 0);
      before ||= subscriptions();
    }
    expect(costs[1]).toBeLessThanOrEqual(costs[0]! + 20);
    expect(subscriptions()).toBe(before);
    // Nobody follows, so nobody asks.
    expect(await queriesOf(reads, async () => void (await newProject()))).toBe(0);
  });

  it('that come and go all the time are all forgotten', async () => {
    const before = subscriptions();
    for (let round = 0; round < 4; round += 1) {
      const followers = await followMany(100, '/v1/events');
      for (const follower of followers) follower.destroy();
    }
    await until('all are gone', () => gateway.app.get(Audit).followers === 0 && open().size === 0);
    expect(subscriptions()).toBe(before);
  });

  it('that do not read cost no memory: what they missed is read when they do', async () => {
    const follower = await follow('/v1/events?type=gateway.project.created');
    follower.pause();
    const rows = 3_000;
    await gateway.kit.database.query(
      `INSERT INTO events (id, type, project, time, data)
       SELECT gen_random_uuid(), 'gateway.project.created', NULL, now(),
         jsonb_build_object('id', gen_random_uuid(), 'name', 'm-' || n, 'filler', repeat('x', 4000)) FROM generate_series(1, $1::int) AS n`,
      [rows],
    );
    // Much more than the buffers of a connection take: the place at the tail is given up.
    await until('it has fallen behind', () => gateway.app.get(Audit).followers === 0);
    const last = told(follower, `"name":"m-${rows}"`);
    const names: number[] = [];
    let rest = '';
    follower.on('data', (part: string) => {
      rest += part;
      for (const [, name] of rest.matchAll(/"name":"m-(\d+)"/g)) names.push(Number(name));
      rest = rest.slice(-20).replaceAll('"name":', '');
    });
    follower.resume();
    await last;
    expect(new Set(names).size).toBe(rows);
    expect(names).toEqual(names.toSorted((a, b) => a - b));
  });
});

describe('200 who watch operations', () => {
  it('cost the queries of one, for one operation or for many, and leave nothing behind', async () => {
    const project = await newProject();
    const { id: owner } = (await gateway.ask('GET', `/v1/projects/${project}`)).body as { id: string };
    const image = gateway.standIns.addImage(`image-${project}`, owner);
    const release = gateway.standIns.hold(diskCreate);
    const newDisk = async () => {
      const body = { name: `d-${(count += 1)}`, image: image.id };
      return (await gateway.ask('POST', `/v1/projects/${project}/disks`, { body })).body as OperationBody;
    };
    const operations = await Promise.all(Array.from({ length: 10 }, newDisk));
    const before = subscriptions();
    const watchers = await Promise.all(
      operations.flatMap(({ id }) => Array.from({ length: 20 }, () => follow(`/v1/operations/${id}`))),
    );
    expect(gateway.app.get(Live).watchers).toBe(200);
    // One for all that is watched here.
    expect(subscriptions() - before).toBe(1);
    const ends = watchers.map((watcher) => told(watcher, '"state":"succeeded"'));
    const reads = /FROM operations o WHERE id = ANY/;
    const asked = await queriesOf(reads, async () => {
      release();
      await Promise.all(ends);
    });
    expect(asked).toBeLessThan(100);
    await until('all are gone', () => gateway.app.get(Live).watchers === 0 && open().size === 0);
    expect(subscriptions()).toBe(before);
  });
});

describe('a token', () => {
  it('follows as many streams as it may, and no more; another one is not concerned', async () => {
    const replica = await gateway.replica({ M2_STREAMS_PER_TOKEN: '2' });
    const mine = await gateway.token('operator');
    const streams = [
      await follow('/v1/events', mine, replica.origin),
      await follow('/v1/events', mine, replica.origin),
    ];
    const refused = await follow('/v1/events', mine, replica.origin);
    expect(refused.statusCode).toBe(429);
    const body = (await refused.setEncoding('utf8').toArray()).join('');
    expect(JSON.parse(body)).toMatchObject({ code: 'request.too_many_streams', status: 429 });
    expect((await follow('/v1/events', adminToken, replica.origin)).statusCode).toBe(200);
    streams[0]!.destroy();
    await until('there is room again', async () => {
      const again = await follow('/v1/events', mine, replica.origin);
      return again.statusCode === 200;
    });
    await replica.stop();
  });

  it('that is revoked ends what it follows, at every replica, and nothing else', async () => {
    const replica = await gateway.replica();
    const { id, value } = (await gateway.ask('POST', '/v1/tokens', { body: { name: 'short', role: 'auditor' } }))
      .body as { id: string; value: string };
    const [here, there, other] = await Promise.all([
      follow('/v1/events', value),
      follow('/v1/events', value, replica.origin),
      follow('/v1/events', adminToken, replica.origin),
    ]);
    const ends = Promise.all([here, there].map((stream) => once(stream.resume(), 'end')));
    expect((await gateway.ask('DELETE', `/v1/tokens/${id}`)).status).toBe(204);
    await ends;
    const name = `p-${count + 1}`;
    const seen = told(other, name);
    await newProject();
    await seen;
    await replica.stop();
  });

  it('of a project that goes ends what it follows; so does the stream of that project alone', async () => {
    const project = await newProject();
    const member = await gateway.token('member', project);
    const own = await follow('/v1/events', member);
    const response = await fetch(`${gateway.origin}/v1/events?project=${project}`, {
      headers: { accept: 'text/event-stream', authorization: `Bearer ${adminToken}` },
    });
    const types: string[] = [];
    const read = (async () => {
      for await (const { event } of readEvents(response)) types.push(event);
    })();
    const ended = once(own.resume(), 'end');
    expect((await gateway.ask('DELETE', `/v1/projects/${project}`)).status).toBe(204);
    await Promise.all([ended, read]);
    expect(types.at(-1)).toBe('gateway.project.deleted');
  });
});
