import { diskDetach, M2Error, powerShow } from '@m2/contracts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bus } from './bus.js';
import { answer, startNats, type TestNats, until } from './testing/index.js';

let nats: TestNats;
let asker: Bus;
let service: Bus;
const nodeId = '0198f7a0-0000-7000-8000-000000000001';
const ask = (deadlineMs = 5_000) => asker.request(powerShow, { nodeId }, { deadlineMs });

beforeAll(async () => {
  nats = await startNats();
  [asker, service] = await Promise.all([
    Bus.open({ service: 'gateway', url: nats.url }),
    Bus.open({ service: 'hil', url: nats.url }),
  ]);
});
afterAll(async () => {
  await Promise.all([asker?.close(), service?.close()]);
  await nats?.stop();
});

/** Answers until the end of `during`. */
const meanwhile = async (reply: Parameters<typeof answer<typeof powerShow>>[2], during: () => Promise<unknown>) => {
  const stand = answer(service, powerShow, reply);
  await service.connection.flush();
  try {
    await during();
  } finally {
    stand.stop();
  }
  return stand.requests;
};

describe('a request', () => {
  it('is answered', async () => {
    const requests = await meanwhile(
      () => ({ power: 'on' }),
      async () => expect(await ask()).toEqual({ power: 'on' }),
    );
    expect(requests).toEqual([{ nodeId }]);
  });

  it('that nobody listens for says so at once', async () => {
    await expect(ask()).rejects.toMatchObject({ code: 'service.unavailable', retryable: true });
  });

  it('that is not answered in time says so', async () => {
    const never = new Promise<never>(() => {});
    await meanwhile(
      () => never,
      async () => expect(ask(100)).rejects.toMatchObject({ code: 'request.deadline', retryable: true }),
    );
  });

  it('brings the error of the service with its code, its sentence and what it is about', async () => {
    const error = new M2Error('node.not_found', 'There is no node x', { node: 'x' });
    await meanwhile(
      () => {
        throw error;
      },
      async () =>
        expect(ask()).rejects.toMatchObject({
          code: 'node.not_found',
          detail: 'There is no node x',
          about: { node: 'x' },
        }),
    );
  });

  it('is sent again when the service that owes the answer has started anew, and says so', async () => {
    let again = 0;
    const answers = [new Promise<never>(() => {}), { power: 'on' as const }];
    const requests = await meanwhile(
      () => answers.shift()!,
      async () => {
        const asked = asker.request(powerShow, { nodeId }, { deadlineMs: 5_000, onAgain: () => (again += 1) });
        await until('it was asked', () => answers.length === 1);
        service.announce();
        expect(await asked).toEqual({ power: 'on' });
      },
    );
    expect([requests.length, again]).toEqual([2, 1]);
  });

  it('whose answer is not of the contract fails', async () => {
    await meanwhile(
      () => ({ power: 'perhaps' }) as never,
      async () => expect(ask()).rejects.toThrow(/power/),
    );
    const garbage = service.connection.subscribe(powerShow.subject, {
      callback: (_e, message) => void message.respond('<html>'),
    });
    await service.connection.flush();
    await expect(ask()).rejects.toBeInstanceOf(Error);
    garbage.unsubscribe();
  });

  it('carries the effect key, the fence and the time for which somebody waits', async () => {
    const got: Record<string, string>[] = [];
    const subscription = service.connection.subscribe(diskDetach.subject, {
      callback: (_error, message) => {
        got.push(Object.fromEntries([...message.headers!].map(([name, [value]]) => [name, value as string])));
        message.respond(JSON.stringify({ ok: true, value: {} }));
      },
    });
    await service.connection.flush();
    const input = { diskId: nodeId, project: nodeId, holder: nodeId };
    await asker.request(diskDetach, input, { deadlineMs: 5_000, effect: 'op/step/do', fence: 7 });
    subscription.unsubscribe();
    expect(got[0]).toMatchObject({ 'm2-effect': 'op/step/do', 'm2-fence': '7' });
    const remainingMs = Number(got[0]!['m2-remaining']);
    expect(remainingMs).toBeGreaterThan(0);
    expect(remainingMs).toBeLessThanOrEqual(5_000);
  });
});

describe('while NATS is away', () => {
  it('whoever asks, or waits for an answer, learns it at once, and asks again with success when it is back', async () => {
    const gate = Promise.withResolvers<never>();
    const stand = answer(service, powerShow, () => gate.promise);
    await service.connection.flush();
    const waiting = ask(60_000);
    waiting.catch(() => {});
    await until('the request has arrived', () => stand.requests.length > 0);
    await nats.halt();
    await expect(waiting).rejects.toMatchObject({ code: 'service.unavailable' });
    await expect(ask(60_000)).rejects.toMatchObject({ code: 'service.unavailable' });
    expect(asker.isAway).toBe(true);
    stand.stop();
    const back = answer(service, powerShow, () => ({ power: 'off' }));
    await nats.start();
    expect(await until('it is answered', () => ask().catch(() => undefined))).toEqual({ power: 'off' });
    back.stop();
  });
});

describe('a service that was cut off', () => {
  it('says that it is there when it is back: what did not come to it is asked again', async () => {
    const stand = answer(service, powerShow, () => ({ power: 'on' }));
    service.announce();
    await service.connection.flush();
    const heard: string[] = [];
    const listening = asker.connection.subscribe('m2.live.service.*', {
      callback: (_error, { subject }) => void heard.push(subject),
    });
    await asker.connection.flush();
    await service.connection.reconnect();
    await until('it says so', () => heard.length > 0);
    expect(heard).toEqual(['m2.live.service.hil']);
    listening.unsubscribe();
    stand.stop();
  });
});
