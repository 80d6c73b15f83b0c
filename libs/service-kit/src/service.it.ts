import { bootConfigCreate, bootConfigDelete, bootConfigShow, type M2Error } from '@m2/contracts';
import { headers } from '@nats-io/transport-node';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { Bus } from './bus.js';
import type { baseConfig } from './config.js';
import type { RunningService } from './service.js';
import { type TestEnvironment, openTestEnvironment, startNats, until } from './testing/index.js';
import {
  createThing,
  gate,
  handled,
  hugeThing,
  newThing,
  quiet,
  strangeThing,
  thingsService,
  traces,
} from './things.fixture.js';

let env: TestEnvironment;
let bus: Bus;
let service: RunningService<typeof baseConfig>;
let twin: RunningService<typeof baseConfig>;

beforeAll(async () => {
  env = await openTestEnvironment();
  bus = await env.bus();
  const environment = { M2_DATABASE_URL: await env.postgres.database() };
  // Two replicas start together on an empty database.
  const start = () => env.run(thingsService, environment, quiet);
  [service, twin] = await Promise.all([start(), start()]);
});
afterAll(() => env?.close());
beforeEach(() => {
  handled.length = 0;
  traces.length = 0;
  gate.open = Promise.resolve();
});

describe('two replicas that start together', () => {
  it('migrate once, and both serve', async () => {
    const rows = await service.kit.database.query<{ name: string }>('SELECT name FROM m2_migrations');
    expect(rows.map((row) => row.name).filter((name) => name.startsWith('Things'))).toHaveLength(1);
    for (const { ops } of [service, twin])
      expect((await fetch(`http://127.0.0.1:${ops.port}/readyz`)).status).toBe(200);
  });

  it('share the calls: each is answered by one', async () => {
    const asked = Array.from({ length: 20 }, () => uuidv7());
    const answers = await Promise.allSettled(
      asked.map((configId) => bus.request(bootConfigShow, { configId, project: configId }, { deadlineMs: 5_000 })),
    );
    expect(
      answers.every((one) => one.status === 'rejected' && (one.reason as M2Error).code === 'boot.config_not_found'),
    ).toBe(true);
    expect(handled.toSorted()).toEqual(asked.toSorted());
  });

  it('do one effect once, whichever of them it reaches', async () => {
    const input = newThing();
    const effect = `${uuidv7()}/arm/do`;
    const answers = await Promise.all(Array.from({ length: 6 }, () => createThing(bus, input, effect)));
    expect(handled).toEqual([effect]);
    for (const one of answers) expect(one).toEqual(answers[0]);
  });
});

describe('a call', () => {
  it('that is not of the contract is refused, and what is wrong is named', async () => {
    await expect(createThing(bus, { ...newThing(), mac: 'nonsense' })).rejects.toMatchObject({
      code: 'request.invalid',
      detail: expect.stringContaining('mac') as string,
    });
    const raw = await bus.connection.request(bootConfigCreate.subject, '{ no JSON', { timeout: 5_000 });
    expect(raw.json()).toMatchObject({ ok: false, error: { code: 'request.invalid' } });
  });

  it('that is a command comes with an effect key and a deadline', async () => {
    await expect(bus.request(bootConfigCreate, newThing(), { deadlineMs: 5_000 })).rejects.toMatchObject({
      code: 'request.invalid',
      detail: expect.stringContaining('effect key') as string,
    });
  });

  it.each([
    ['a minute ahead', 60_000],
    ['a minute behind', -60_000],
  ])('of a host whose clock is %s is carried out', async (_, skew) => {
    // oxlint-disable-next-line no-restricted-properties -- it is the clock that is wrong here
    const now = Date.now();
    const clock = vi.spyOn(Date, 'now').mockReturnValue(now + skew);
    // What the sender reads of its clock, it reads before the call returns.
    const answered = createThing(bus);
    clock.mockRestore();
    await expect(answered).resolves.toMatchObject({ state: 'armed' });
  });

  it('that is reached after its deadline is not carried out', async () => {
    const meta = headers();
    meta.set('m2-effect', `${uuidv7()}/arm/do`);
    meta.set('m2-remaining', '0');
    const options = { timeout: 5_000, headers: meta };
    const raw = await bus.connection.request(bootConfigCreate.subject, JSON.stringify(newThing()), options);
    expect(raw.json()).toMatchObject({ ok: false, error: { code: 'request.deadline' } });
    expect(handled).toEqual([]);
  });

  it('that breaks is answered as internal, to be tried again', async () => {
    const options = { deadlineMs: 5_000, effect: `${uuidv7()}/arm/undo`, fence: 1 };
    const input = { configId: uuidv7(), project: uuidv7() };
    await expect(bus.request(bootConfigDelete, input, options)).rejects.toMatchObject({
      code: 'internal',
      retryable: true,
    });
  });

  it.each([
    ['of 5 MB', hugeThing, 'request.answer_too_large', /5000\d{3} bytes/],
    ['that is no JSON', strangeThing, 'internal', /BigInt/],
  ])('with an answer %s is answered with an error, and the next one as before', async (_, configId, code, detail) => {
    const show = (id: string) => bus.request(bootConfigShow, { configId: id, project: id }, { deadlineMs: 5_000 });
    for (let time = 0; time < 3; time += 1)
      await expect(show(configId)).rejects.toMatchObject({ code, detail: expect.stringMatching(detail) as string });
    await expect(show(uuidv7())).rejects.toMatchObject({ code: 'boot.config_not_found' });
  });

  it('that is larger than a message is not sent, and not waited for', async () => {
    const input = { ...newThing(), nodeName: 'x'.repeat(2_000_000) };
    await expect(createThing(bus, input)).rejects.toMatchObject({ code: 'request.too_large' });
  });

  it('that wants its answer at JetStream’s API is not carried out', async () => {
    const id = uuidv7();
    for (const reply of ['$JS.API.STREAM.PURGE.M2_EVENTS', 'm2.evt.boot.config.served', '_INBOX.x', ''])
      bus.connection.publish(bootConfigShow.subject, JSON.stringify({ configId: id, project: id }), { reply });
    await bus.connection.flush();
    // The server and the service work through what they get in order.
    await Promise.allSettled(
      Array.from({ length: 20 }, () =>
        bus.request(bootConfigShow, { configId: uuidv7(), project: id }, { deadlineMs: 5_000 }),
      ),
    );
    expect(handled).toHaveLength(20);
    expect(handled).not.toContain(id);
  });

  it('under way when the service is stopped is ended and answered', async () => {
    const third = await env.run(thingsService, {}, quiet);
    await Promise.all([service.stop(), twin.stop()]);
    const opening = Promise.withResolvers<void>();
    gate.open = opening.promise;
    const answered = createThing(bus);
    await until('the handler is at work', () => traces.length > 0);
    const stopped = third.stop();
    opening.resolve();
    await expect(answered).resolves.toMatchObject({ state: 'armed' });
    await stopped;
    await expect(createThing(bus)).rejects.toMatchObject({ code: 'service.unavailable' });
  });
});

describe('a database that has no means', () => {
  it.each([
    ['53100', /disk under the database is full/],
    ['53200', /no memory left/],
    ['53300', /no connection left/],
    ['58030', /cannot read or write its files/],
    ['25006', /takes no writes/],
  ])('(%s) is a service that is not there for now, and says what it lacks', async (state, detail) => {
    const lone = await env.run(thingsService, {}, quiet);
    await lone.kit.database.query(`
      CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '${state}'; END $$;
      CREATE TRIGGER refuse BEFORE INSERT ON things FOR EACH ROW EXECUTE FUNCTION refuse();`);
    await expect(createThing(bus)).rejects.toMatchObject({
      code: 'service.unavailable',
      status: 503,
      detail: expect.stringMatching(detail) as string,
    });
    await lone.kit.database.query('DROP TRIGGER refuse ON things');
    await expect(createThing(bus)).resolves.toMatchObject({ state: 'armed' });
    await lone.stop();
  });
});

describe('a NATS server without JetStream', () => {
  it('is enough to start, to be ready and to serve; that events wait is an alarm', async () => {
    const nats = await startNats({ jetStream: false });
    const asker = await Bus.open({ service: 'gateway', url: nats.url });
    const lone = await env.run(thingsService, { M2_NATS_URL: nats.url }, quiet);
    await expect(createThing(asker)).resolves.toMatchObject({ state: 'armed' });
    const readyz = async () => {
      const response = await fetch(`http://127.0.0.1:${lone.ops.port}/readyz`);
      return { status: response.status, ...((await response.json()) as object) };
    };
    expect(await readyz()).toMatchObject({ status: 200, ready: true, alarms: {} });
    await lone.kit.database.query(`UPDATE m2_outbox SET created_at = now() - interval '2 minutes'`);
    expect(await readyz()).toMatchObject({
      status: 200,
      ready: true,
      alarms: { events: expect.stringMatching(/have waited for 12\d s/) as string },
    });
    await asker.close();
    await lone.stop();
    await nats.stop();
  });
});
