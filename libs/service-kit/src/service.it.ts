import { bootConfigCreate, bootConfigDelete, bootConfigShow, type M2Error } from '@m2/contracts';
import { headers } from '@nats-io/transport-node';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Bus } from './bus.js';
import type { baseConfig } from './config.js';
import type { RunningService } from './service.js';
import { type TestEnvironment, openTestEnvironment, until } from './testing/index.js';
import { createThing, gate, handled, newThing, quiet, thingsService, traces } from './things.fixture.js';

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
