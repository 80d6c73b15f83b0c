import { expect, it } from 'vitest';
import { ids } from '../test/gateway.js';
import { start } from '../test/setup.js';

it('m2 events tells a line for each, of an error its code, from a place on', async () => {
  const { gateway, person } = await start();
  const event = {
    id: ids.operation,
    sequence: '8',
    type: 'gateway.operation.ended',
    project: ids.project,
    time: '2026-11-22T10:00:00.000Z',
    traceparent: null,
    data: { by: 'alice', left: ['x'], error: { code: 'bmc.unreachable', detail: 'It is silent.' } },
  };
  gateway.on(
    'GET /v1/events',
    () => ({ items: [event], next: '8' }),
    () => ({ items: [] }),
  );
  const { out } = await person.m2(['events', '--after', '7', '--type', 'gateway.*']);
  expect(out).toBe('2026-11-22T10:00:00.000Z  gateway.operation.ended  by=alice  error=bmc.unreachable\n');
  expect(gateway.seen.map(({ query }) => [query.get('cursor'), query.get('type')])).toEqual([
    ['7', 'gateway.*'],
    ['8', 'gateway.*'],
  ]);
});
