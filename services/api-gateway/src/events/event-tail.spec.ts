import type { AuditEvent } from '@m2/contracts';
import { describe, expect, it } from 'vitest';
import { EventTail } from './event-tail.js';

const makeEvent = (sequence: number, type = 'image.disk.created'): AuditEvent => ({
  id: '0198f7a0-0000-7000-8000-000000000000',
  sequence: String(sequence),
  type,
  project: null,
  time: '2026-11-30T00:00:00.000Z',
  traceparent: null,
  data: {},
});

/** A table of events that is kept in memory, and counts the questions. */
class Table {
  readonly rows: AuditEvent[] = [];
  queries = 0;
  listeners = new Set<() => void>();
  /** Reads wait at it. */
  gate = Promise.resolve();
  failure: Error | undefined;
  readonly errors: unknown[] = [];
  readonly tail = new EventTail({
    last: async () => this.read(() => this.rows.at(-1)?.sequence ?? '0'),
    after: async (sequence, limit) =>
      this.read(() => this.rows.filter((row) => Number(row.sequence) > Number(sequence)).slice(0, limit)),
    listen: (onEvents) => {
      this.listeners.add(onEvents);
      return { stop: () => void this.listeners.delete(onEvents) };
    },
    onError: (error) => this.errors.push(error),
  });

  add(...rows: AuditEvent[]): void {
    this.rows.push(...rows);
    for (const tell of this.listeners) tell();
  }

  private async read<T>(look: () => T): Promise<T> {
    this.queries += 1;
    await this.gate;
    if (this.failure) throw this.failure;
    return look();
  }
}
const everything = () => true;
const sequences = (events: AuditEvent[] | undefined) => events?.map(({ sequence }) => Number(sequence));

describe('the tail of the events', () => {
  it('costs the same queries for one follower and for a thousand', async () => {
    const counts = [];
    for (const followers of [1, 1_000]) {
      const table = new Table();
      table.add(makeEvent(1));
      const places = await Promise.all(Array.from({ length: followers }, () => table.tail.join(everything)));
      for (let at = 2; at < 12; at += 1) {
        table.add(makeEvent(at));
        for (const place of places) expect(sequences(await place.next())).toEqual([at]);
      }
      counts.push(table.queries);
    }
    // Who comes while the first one is let in waits for one more round.
    expect(counts[1]).toBeLessThanOrEqual(counts[0]! + 1);
  });

  it('begins after the newest event, and tells each what is its business', async () => {
    const table = new Table();
    table.add(makeEvent(1), makeEvent(2));
    const all = await table.tail.join(everything);
    const disks = await table.tail.join(({ type }) => type === 'image.disk.deleted');
    expect([all.from, disks.from]).toEqual(['2', '2']);
    table.add(makeEvent(3), makeEvent(4, 'image.disk.deleted'));
    expect(sequences(await all.next())).toEqual([3, 4]);
    expect(sequences(await disks.next())).toEqual([4]);
  });

  it('makes one query of wake-ups that come during a query', async () => {
    const table = new Table();
    const place = await table.tail.join(everything);
    const before = table.queries;
    const gate = Promise.withResolvers<void>();
    table.gate = gate.promise;
    for (let at = 1; at <= 50; at += 1) table.add(makeEvent(at));
    gate.resolve();
    let seen = 0;
    while (seen < 50) seen += (await place.next())!.length;
    expect(table.queries - before).toBeLessThanOrEqual(2);
  });

  it('lets go of a follower that does not keep up, after what fits, and says up to where', async () => {
    const table = new Table();
    const [slow, quick] = await Promise.all([table.tail.join(everything), table.tail.join(everything)]);
    let seen = 0;
    for (let at = 1; at <= 1_200; at += 100) {
      table.add(...Array.from({ length: 100 }, (_, offset) => makeEvent(at + offset)));
      while (seen < at + 99) seen += (await quick.next())!.length;
    }
    expect((await slow.next())!.length).toBe(500);
    expect(await slow.next()).toBeUndefined();
    expect(slow.seen).toBe('500');
    expect(table.tail.followers).toBe(1);
  });

  it('reads nothing and listens to nothing when the last follower has left, and begins anew', async () => {
    const table = new Table();
    const places = await Promise.all([1, 2, 3].map(() => table.tail.join(everything)));
    expect(table.listeners.size).toBe(1);
    const waiting = places[0]!.next();
    for (const place of places) place.leave();
    expect(await waiting).toBeUndefined();
    expect([table.listeners.size, table.tail.followers]).toEqual([0, 0]);
    table.add(makeEvent(1));
    expect((await table.tail.join(everything)).from).toBe('1');
  });

  it('refuses who comes while the database is away, and keeps those who are there', async () => {
    const table = new Table();
    const place = await table.tail.join(everything);
    table.failure = new Error('away');
    await expect(table.tail.join(everything)).rejects.toThrow('away');
    table.failure = undefined;
    table.add(makeEvent(1));
    expect(sequences(await place.next())).toEqual([1]);
    expect(table.tail.followers).toBe(1);
  });
});
