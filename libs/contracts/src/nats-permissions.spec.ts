import { describe, expect, it } from 'vitest';
import { calls, callsOf, eventsOf } from './catalogue.js';
import { exportCredentials } from './iscsi.js';
import { serviceNames } from './message.js';
import { natsConfig, natsPasswords, natsPermissions } from './nats-permissions.js';

/** Whether a NATS subject is covered by one of the patterns: `*` is one token, `>` the rest. */
const covers = (patterns: string[], subject: string) =>
  patterns.some((pattern) => {
    const [want, have] = [pattern.split('.'), subject.split('.')];
    const tail = want.indexOf('>');
    const length = tail === -1 ? want.length : tail;
    if (tail === -1 ? have.length !== length : have.length <= tail) return false;
    return want.slice(0, length).every((token, index) => token === '*' || token === have[index]);
  });

describe.each(serviceNames)('the permissions of %s', (service) => {
  const { publish, subscribe } = natsPermissions(service);

  it('allow exactly the calls that name it as a caller', () => {
    for (const call of calls)
      expect([call.subject, covers(publish, call.subject)]).toEqual([call.subject, call.callers.includes(service)]);
  });

  it('allow it to hear exactly its own calls', () => {
    for (const call of calls)
      expect([call.subject, covers(subscribe, call.subject)]).toEqual([call.subject, callsOf(service).includes(call)]);
  });

  it('allow it to tell exactly its own events', () => {
    for (const name of serviceNames)
      for (const event of eventsOf(name))
        expect([event.subject, covers(publish, event.subject)]).toEqual([event.subject, name === service]);
  });

  it('allow its own inbox only, and no stream or consumer to be deleted', () => {
    for (const name of serviceNames) expect(covers(subscribe, `_INBOX_${name}.a.b`)).toBe(name === service);
    for (const verb of ['DELETE', 'PURGE', 'MSG.DELETE'])
      expect(covers(publish, `$JS.API.STREAM.${verb}.M2_EVENTS`)).toBe(false);
    expect(covers(publish, '$JS.API.STREAM.UPDATE.M2_EVENTS')).toBe(service === 'gateway');
    expect(covers(publish, '$JS.API.CONSUMER.DELETE.M2_EVENTS.gateway-audit')).toBe(false);
  });
});

it('lets only those answer who are asked: the server keeps that right for each event that somebody takes in, for hours', () => {
  const config = natsConfig({ listen: '127.0.0.1:7402', storeDirectory: '/', include: 'passwords.conf' });
  const answering = serviceNames.filter((service) =>
    config.split('user: ').some((user) => user.startsWith(`"m2-${service}"`) && user.includes('allow_responses')),
  );
  expect(answering).toEqual(serviceNames.filter((service) => callsOf(service).length > 0));
  expect(answering).not.toContain('gateway');
});

it('gives the CHAP secret to the boot service and to nobody else', () => {
  const askers = serviceNames.filter((service) => covers(natsPermissions(service).publish, exportCredentials.subject));
  expect(askers).toEqual(['boot']);
});

it('keeps the passwords out of the configuration', () => {
  const passwords = { gateway: 'gwSecret', image: 'imSecret', iscsi: 'isSecret', boot: 'boSecret', hil: 'hiSecret' };
  const config = natsConfig({
    listen: '127.0.0.1:7402',
    storeDirectory: '/var/lib/m2/nats',
    include: 'passwords.conf',
  });
  expect(config).not.toContain('Secret');
  for (const line of natsPasswords(passwords).trim().split('\n')) {
    const [variable] = line.split(': ');
    expect(config).toContain(`password: $${variable}\n`);
  }
});
