import { diskCreate } from '@m2/contracts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readEvents, type StreamedEvent } from '../../testing/events.js';
import { adminToken, openGateway, type OperationBody, type TestGateway } from '../../testing/gateway.js';

let gateway: TestGateway;
let image: { id: string };
let count = 0;

beforeAll(async () => {
  gateway = await openGateway();
  const { id } = await gateway.project('lab');
  image = gateway.standIns.addImage('ubuntu', id);
});
afterAll(() => gateway?.close());

const open = (path: string, headers: Record<string, string> = {}, signal?: AbortSignal) =>
  fetch(`${gateway.origin}${path}`, {
    headers: { accept: 'text/event-stream', authorization: `Bearer ${adminToken}`, ...headers },
    ...(signal && { signal }),
  });
const newDisk = async () => {
  const body = { name: `disk-${(count += 1)}`, image: image.id };
  return (await gateway.ask('POST', '/v1/projects/lab/disks', { body })).body as OperationBody;
};

describe('the stream of an operation', () => {
  it('shows it as it is, then each change, and ends when it ends', async () => {
    const release = gateway.standIns.hold(diskCreate);
    const { id } = await newDisk();
    const response = await open(`/v1/operations/${id}`);
    expect(response.headers.get('content-type')).toContain('text/event-stream');
    expect(response.headers.get('cache-control')).toBe('no-store');
    const states: string[] = [];
    for await (const { event, data } of readEvents(response)) {
      expect([event, data['id']]).toEqual(['operation', id]);
      states.push((data as unknown as OperationBody).state);
      release();
    }
    expect([states[0], states.at(-1)]).toEqual(['running', 'succeeded']);
  });

  it('of one that has ended is its end', async () => {
    const { id } = await gateway.ended(await newDisk());
    const seen: StreamedEvent[] = [];
    for await (const event of readEvents(await open(`/v1/operations/${id}`))) seen.push(event);
    expect(seen).toHaveLength(1);
    expect(seen[0]!.data).toMatchObject({ id, state: 'succeeded' });
  });

  it('of one that is not there is a problem like any other', async () => {
    const response = await open('/v1/operations/0198f7a0-0000-7000-8000-000000000000');
    expect([response.status, response.headers.get('content-type')]).toEqual([
      404,
      'application/problem+json; charset=utf-8',
    ]);
  });

  it('that nobody reads any more leaves nothing behind in the gateway', async () => {
    const release = gateway.standIns.hold(diskCreate);
    const { id } = await newDisk();
    const before = gateway.kit.bus.connection.stats().inMsgs;
    const closing = new AbortController();
    const stream = readEvents(await open(`/v1/operations/${id}`, {}, closing.signal));
    await stream.next();
    closing.abort();
    await expect(stream.next()).rejects.toThrow(/abort/i);
    release();
    await gateway.ended({ id });
    expect(gateway.kit.bus.connection.stats().inMsgs).toBeGreaterThan(before);
  });
});

describe('the events', () => {
  const listed = async (query = '') =>
    (
      (await gateway.ask('GET', `/v1/events?limit=500${query}`)).body as {
        items: { sequence: string; type: string; data: { id: string } }[];
      }
    ).items;
  const endOf = async (id: string) => {
    for (;;) {
      const found = (await listed('&type=gateway.operation.ended')).find(({ data }) => data.id === id);
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };

  it('are kept in order, with who did what', async () => {
    const { id } = await gateway.ended(await newDisk());
    const end = await endOf(id);
    const items = await listed();
    const sequences = items.map(({ sequence }) => Number(sequence));
    expect(sequences).toEqual(sequences.toSorted((a, b) => a - b));
    const start = items.find(({ type, data }) => type === 'gateway.operation.started' && data.id === id)!;
    expect(start.data).toMatchObject({ kind: 'disk.create', by: 'bootstrap' });
    expect(Number(start.sequence)).toBeLessThan(Number(end.sequence));
  });

  it('are filtered by type, or by its beginning', async () => {
    expect(new Set((await listed('&type=gateway.project.*')).map(({ type }) => type))).toEqual(
      new Set(['gateway.project.created']),
    );
    expect(await listed('&type=%25')).toBeUndefined();
  });

  it('go on, for who was away, after the last one that it has seen', async () => {
    const first = await endOf((await gateway.ended(await newDisk())).id);
    const missed = await endOf((await gateway.ended(await newDisk())).id);
    const closing = new AbortController();
    const response = await open(
      '/v1/events?type=gateway.operation.ended',
      { 'last-event-id': first.sequence },
      closing.signal,
    );
    const stream = readEvents(response);
    const one = (await stream.next()).value as StreamedEvent;
    expect([one.id, one.event, one.data['data']]).toMatchObject([
      missed.sequence,
      'gateway.operation.ended',
      missed.data,
    ]);
    const { id } = await newDisk();
    const two = (await stream.next()).value as StreamedEvent;
    expect(two.data['data']).toMatchObject({ id, state: 'succeeded' });
    expect(Number(two.id)).toBeGreaterThan(Number(one.id));
    closing.abort();
  });

  it('begin with what happens from now on for who names none', async () => {
    await endOf((await gateway.ended(await newDisk())).id);
    const closing = new AbortController();
    const stream = readEvents(await open('/v1/events?type=gateway.operation.started', {}, closing.signal));
    const next = stream.next();
    // The stream is there when its headers are; what it begins with is read right after.
    const ids: string[] = [];
    const making = setInterval(() => void newDisk().then(({ id }) => ids.push(id)), 100);
    const { data } = (await next).value as StreamedEvent;
    clearInterval(making);
    closing.abort();
    expect(ids.length).toBeGreaterThan(0);
    expect((data['data'] as { kind: string }).kind).toBe('disk.create');
    expect(ids).toContain((data['data'] as { id: string }).id);
  });

  it('after a place that is none is a problem, not a stream', async () => {
    // The second is of an M2 that went back to a backup since.
    for (const place of ['yesterday', '99999999999']) {
      const response = await open('/v1/events', { 'last-event-id': place });
      expect(response.status).toBe(400);
      const { code, detail } = (await response.json()) as { code: string; detail: string };
      expect([code, detail]).toEqual(['request.invalid', expect.stringContaining('Last-Event-ID')]);
    }
  });
});
