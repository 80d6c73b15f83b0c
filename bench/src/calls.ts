import { bootConfigCreate, bootConfigShow } from '@m2/contracts';
import { openTestEnvironment, startPostgres, until, useTestRun } from '@m2/service-kit/testing';
import { fork } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { percentile, round } from './numbers.js';

/**
 * What the plumbing costs: processor time per message of a service whose handlers do nothing, and of who asks it. `bare` is answered
 * by the same process without the kit. Microseconds, medians of rounds that take turns in one run.
 */
interface Cost {
  serviceUs: number;
  callerUs: number;
}

const { values } = parseArgs({ options: { json: { type: 'boolean', default: false } } });
const messages = 2_000;
const atOnce = 8;
const warmRounds = 3;
const rounds = 9;
const bareSubject = 'm2.bench.bare';

const directory = mkdtempSync(join(tmpdir(), 'm2-bench-'));
// PostgreSQL may run as another user, and its directory is below this one.
chmodSync(directory, 0o711);
useTestRun(directory);
// PostgreSQL's process does not keep this one alive while it stops.
const awake = setInterval(() => {}, 1_000);
const env = await openTestEnvironment(await startPostgres());
const child = fork(join(import.meta.dirname, 'calls/service.js'), {
  env: {
    ...process.env,
    M2_DATABASE_URL: await env.postgres.database(),
    M2_NATS_URL: env.nats.url,
    M2_SECRET_KEY: randomBytes(32).toString('hex'),
    M2_OPS_LISTEN: '127.0.0.1:0',
    M2_LOG_LEVEL: 'error',
  },
});
try {
  const bus = await env.bus();
  const project = randomUUID();
  const deadlineMs = 30_000;
  const show = () => bus.request(bootConfigShow, { configId: randomUUID(), project }, { deadlineMs });
  const request = { provision: project, node: project, nodeName: 'node-1', mac: '52:54:00:00:00:01' };
  const ways: Record<string, () => Promise<unknown>> = {
    bare: async () => {
      const body = JSON.stringify({ configId: randomUUID(), project });
      return (await bus.connection.request(bareSubject, body, { timeout: deadlineMs })).json();
    },
    query: show,
    command: () =>
      bus.request(
        bootConfigCreate,
        { ...request, configId: randomUUID(), project, exportId: project, initiator: 'iqn.2018-10.io.m2:node.1' },
        { deadlineMs, effect: `${randomUUID()}/arm/do`, fence: 1 },
      ),
  };
  await until('the service answers', () => show().catch(() => undefined));

  const times: Record<string, { service: number[]; caller: number[] }> = {};
  for (let at = 0; at < warmRounds + rounds; at += 1)
    for (const [name, ask] of Object.entries(ways)) {
      const [service, caller] = [await used(), process.cpuUsage()];
      await all(ask);
      const of = (times[name] ??= { service: [], caller: [] });
      if (at < warmRounds) continue;
      of.service.push(between(service, await used()));
      of.caller.push(between(caller, process.cpuUsage()));
    }
  const costs = Object.fromEntries(
    Object.entries(times).map(([name, { service, caller }]): [string, Cost] => [
      name,
      { serviceUs: round(percentile(service, 0.5)), callerUs: round(percentile(caller, 0.5)) },
    ]),
  );
  process.stdout.write(values.json ? `${JSON.stringify(costs)}\n` : table(costs));
} finally {
  child.kill('SIGTERM');
  if (child.exitCode === null) await once(child, 'exit');
  await env.close();
  clearInterval(awake);
  rmSync(directory, { recursive: true, force: true });
}

/** Sends `messages` of them, a few at once. */
async function all(ask: () => Promise<unknown>): Promise<void> {
  let left = messages;
  const line = async () => {
    while (left > 0) {
      left -= 1;
      await ask();
    }
  };
  await Promise.all(Array.from({ length: atOnce }, line));
}

async function used(): Promise<NodeJS.CpuUsage> {
  const answer = once(child, 'message');
  child.send('used');
  return ((await answer) as [NodeJS.CpuUsage])[0];
}

function between(before: NodeJS.CpuUsage, after: NodeJS.CpuUsage): number {
  return (after.user - before.user + after.system - before.system) / messages;
}

function table(costs: Record<string, Cost>): string {
  const lines = Object.entries(costs).map(
    ([name, { serviceUs, callerUs }]) =>
      `${name.padEnd(8)} ${`${serviceUs} µs`.padStart(10)} in the service ${`${callerUs} µs`.padStart(10)} in the caller`,
  );
  return `${lines.join('\n')}\n`;
}
