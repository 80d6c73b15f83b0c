import { bootConfigShow } from '@m2/contracts';
import { trace } from '@opentelemetry/api';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Bus } from './bus.js';
import type { baseConfig } from './config.js';
import type { RunningService } from './service.js';
import { inSpan, SpanKind } from './telemetry.js';
import { type TestEnvironment, openTestEnvironment, until } from './testing/index.js';
import { createThing, newThing, thingsService, traces } from './things.fixture.js';

let env: TestEnvironment;
let bus: Bus;
let collector: Server;
let service: RunningService<typeof baseConfig>;
const exported: { path: string; body: string }[] = [];
const lines: Record<string, unknown>[] = [];

beforeAll(async () => {
  collector = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      exported.push({ path: `${request.method} ${request.url}`, body: Buffer.concat(parts).toString() });
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
    });
  }).listen(0, '127.0.0.1');
  [env] = await Promise.all([openTestEnvironment(), once(collector, 'listening')]);
  bus = await env.bus();
  const endpoint = `http://127.0.0.1:${(collector.address() as AddressInfo).port}/`;
  const log = { write: (line: string) => lines.push(JSON.parse(line) as Record<string, unknown>) } as never;
  service = await env.run(thingsService, { M2_OTLP_ENDPOINT: endpoint, M2_LOG_LEVEL: 'info' }, log);
});
afterAll(async () => {
  await env?.close();
  collector?.closeAllConnections();
  collector?.close();
});

const ops = (path: string) => fetch(`http://127.0.0.1:${service.ops.port}${path}`);
const traced = <T>(work: () => Promise<T>) =>
  inSpan('a request', SpanKind.SERVER, async (span) => {
    await work();
    return span.spanContext().traceId;
  });

describe('a trace', () => {
  it('goes from the request over the bus to the handler and into the event that it emits', async () => {
    const traceId = await traced(() => createThing(bus));
    expect(traceId).toMatch(/^[0-9a-f]{32}$/);
    expect(traces).toEqual([traceId]);
    const [row] = await service.kit.database.query<{ traceparent: string }>('SELECT traceparent FROM m2_outbox');
    expect(row!.traceparent).toMatch(new RegExp(`^00-${traceId}-[0-9a-f]{16}-01$`));
  });

  it('is found again in the log, above all where something was refused', async () => {
    const configId = uuidv7();
    const call = () =>
      bus.request(bootConfigShow, { configId, project: configId }, { deadlineMs: 5_000 }).catch(() => {});
    const traceId = await traced(call);
    const refusal = { service: 'boot', level: 'info', subject: bootConfigShow.subject, code: 'boot.config_not_found' };
    expect(lines.find((line) => line['traceId'] === traceId)).toMatchObject(refusal);
  });

  it('is exported over OTLP, with the spans of the bus, the handler and the database', async () => {
    const traceId = await traced(() => createThing(bus));
    // The exporter sends a batch now and then; the end of the provider sends the rest.
    await (trace.getTracerProvider() as unknown as { getDelegate(): { forceFlush(): Promise<void> } })
      .getDelegate()
      .forceFlush();
    await until('the spans have come', () => exported.some(({ body }) => body.includes(traceId)));
    const bodies = exported
      .filter(({ body }) => body.includes(traceId))
      .map(({ body }) => body)
      .join('');
    expect(exported[0]!.path).toBe('POST /v1/traces');
    expect(bodies).toContain('m2-boot');
    for (const name of ['a request', 'm2.cmd.boot.config.create', 'postgresql transaction'])
      expect(bodies).toContain(`"${name}"`);
  });
});

describe('the ops server', () => {
  it('says that the process lives', async () => {
    const response = await ops('/healthz');
    expect([response.status, await response.json()]).toEqual([200, { status: 'ok' }]);
  });

  it('serves metrics in Prometheus’ format, with the time that calls took', async () => {
    await createThing(bus, newThing());
    const response = await ops('/metrics');
    expect(response.headers.get('content-type')).toContain('text/plain');
    const text = await response.text();
    expect(text).toMatch(/^m2_call_seconds_count\{.*subject="m2\.cmd\.boot\.config\.create".*outcome="ok".*\} \d+/m);
    for (const line of text.trim().split('\n'))
      expect(line).toMatch(/^(# (HELP|TYPE|UNIT) |[a-z0-9_]+(\{.*\})? [0-9.e+-]+|[a-z0-9_]+\{le="\+Inf")/);
  });

  it('serves nothing else', async () => {
    for (const path of ['/', '/v1/nodes', '/metrics/../x'])
      expect([path, (await ops(path)).status]).toEqual([path, 404]);
  });

  it('says which part is not usable, and that it is again', async () => {
    expect(await (await ops('/readyz')).json()).toEqual({
      alarms: {},
      ready: true,
      parts: { postgresql: 'ok', nats: 'ok' },
    });
    await env.nats.halt();
    const away = await until('it is not ready', async () => {
      const response = await ops('/readyz');
      return response.status === 503 ? ((await response.json()) as { parts: Record<string, string> }) : undefined;
    });
    expect(away.parts['postgresql']).toBe('ok');
    expect(away.parts['nats']).not.toBe('ok');
    await env.nats.start();
    await until('it is ready', async () => (await ops('/readyz')).status === 200);
    service.kit.readiness.push({ name: 'storage', check: () => Promise.reject(new Error('the pool is full')) });
    expect(await (await ops('/readyz')).json()).toMatchObject({ ready: false, parts: { storage: 'the pool is full' } });
    service.kit.readiness.pop();
    service.kit.readiness.push({ name: 'slow', check: () => new Promise(() => {}) });
    expect(await (await ops('/readyz')).json()).toMatchObject({
      ready: false,
      parts: { slow: expect.stringContaining('no answer') as string },
    });
    service.kit.readiness.pop();
  });
});

it('the log of the service has no line that is not JSON, nor one without the service’s name', () => {
  expect(lines.length).toBeGreaterThan(0);
  for (const line of lines) expect(line['service']).toBe('boot');
  expect(lines.every(({ level }) => typeof level === 'string')).toBe(true);
});
