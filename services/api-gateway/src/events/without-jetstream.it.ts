import { startNats, type TestNats, until } from '@m2/service-kit/testing';
import { afterEach, describe, expect, it } from 'vitest';
import { openGateway, type TestGateway } from '../testing/gateway.js';

let gateway: TestGateway | undefined;
let nats: TestNats | undefined;
afterEach(async () => {
  await gateway?.close();
  await nats?.stop();
});

/** A question that the server drops is all that is seen of an API that hangs. */
const dropsQuestions = `
  accounts { A: { jetstream: enabled, users: [{ user: a, password: a, permissions: { publish: { deny: ["$JS.API.>"] } } }] } }
  no_auth_user: a`;

describe.each([
  ['is not there', { jetStream: false }],
  ['hangs', { config: dropsQuestions }],
])('a gateway whose JetStream %s', (_, options) => {
  it('starts, serves, and keeps its events until they can be told', async () => {
    nats = await startNats(options);
    gateway = await openGateway({ environment: { M2_NATS_URL: nats.url } });
    const { kit } = gateway;
    const project = await gateway.project('lab');
    expect((await gateway.ask('GET', '/v1/projects/lab')).body).toMatchObject({ id: project.id });
    const waiting = () =>
      kit.database.query<{ type: string }>('SELECT type FROM m2_outbox WHERE published_at IS NULL ORDER BY sequence');
    expect((await waiting()).map(({ type }) => type)).toContain('gateway.project.created');
    for (const { check } of kit.readiness) await check();
    await kit.database.query(`UPDATE m2_outbox SET created_at = now() - interval '2 minutes'`);
    const alarms = await Promise.all(kit.alarms.map(({ check }) => check()));
    expect(alarms.join()).toMatch(/events have waited for 12\d s/);
  });
});

it('events that waited for JetStream are told when it comes', async () => {
  const without = await startNats({ jetStream: false });
  gateway = await openGateway({ environment: { M2_NATS_URL: without.url } });
  await gateway.project('lab');
  const database = gateway.kit.config.databaseUrl;
  const replica = await gateway.replica({ M2_NATS_URL: gateway.env.nats.url, M2_DATABASE_URL: database });
  await until('the outbox is empty', async () => {
    const rows = await replica.kit.database.query('SELECT FROM m2_outbox WHERE published_at IS NULL');
    return rows.length === 0;
  });
  const types = async () =>
    ((await gateway!.ask('GET', '/v1/events')).body as { items: { type: string }[] }).items.map(({ type }) => type);
  await until('it is in the list of events', async () => (await types()).includes('gateway.project.created'));
  expect(await types()).toContain('gateway.change.accepted');
  await replica.stop();
  await without.stop();
});
