import { describe, expect, it } from 'vitest';
import { calls, callsOf, events, eventsOf } from './catalogue.js';
import { durables } from './nats-permissions.js';
import { serviceNames } from './message.js';

const token = '[a-z]+(?:-[a-z]+)*';

describe('the catalogue of messages', () => {
  it('has calls of every service but the gateway, which is asked by nobody, and events of every service', () => {
    for (const service of serviceNames) {
      expect([service, callsOf(service).length > 0]).toEqual([service, service !== 'gateway']);
      expect([service, eventsOf(service).length > 0]).toEqual([service, true]);
    }
  });

  it('gives every message a subject of its own', () => {
    const subjects = [...calls, ...events].map(({ subject }) => subject);
    expect(subjects.filter((subject, at) => subjects.indexOf(subject) !== at)).toEqual([]);
  });

  it.each(calls.map((call) => [call.subject, call] as const))('%s is well formed', (subject, call) => {
    const prefix = call.kind === 'command' ? 'cmd' : 'qry';
    expect(subject).toMatch(new RegExp(`^m2\\.${prefix}\\.${call.service}\\.${token}\\.${token}$`));
    expect(serviceNames).toContain(call.service);
    expect(call.summary).not.toBe('');
  });

  it.each(calls.map((call) => [call.subject, call] as const))('%s has callers, and not itself', (_subject, call) => {
    expect(call.callers.length).toBeGreaterThan(0);
    expect(call.callers).not.toContain(call.service);
    expect(new Set(call.callers).size).toBe(call.callers.length);
  });

  // Operations are the gateway's; whoever else sent commands would work around its locks.
  it.each(calls.filter(({ kind }) => kind === 'command').map((call) => [call.subject, call] as const))(
    '%s is sent by the gateway alone',
    (_subject, call) => {
      expect(call.callers).toEqual(['gateway']);
    },
  );

  it.each(events.map((event) => [event.subject, event] as const))('%s is well formed', (subject, event) => {
    expect(subject).toMatch(new RegExp(`^m2\\.evt\\.${event.service}\\.${token}\\.${token}$`));
    expect(subject).toBe(`m2.evt.${event.type}`);
    expect(serviceNames).toContain(event.service);
    expect(event.summary).not.toBe('');
  });

  it('names each durable consumer once, since it is one in the whole stream', () => {
    const names = Object.values(durables).flatMap((list) => list.map(({ durable }) => durable));
    expect(new Set(names).size).toBe(names.length);
    for (const [service, list] of Object.entries(durables))
      for (const { durable } of list) expect(durable).toMatch(new RegExp(`^${service}-[a-z]+$`));
  });
});
