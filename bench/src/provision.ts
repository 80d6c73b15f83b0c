import { type Stage, startStage, untilEnded } from '@m2/cli';
import type { Operation } from '@m2/contracts';
import { findFreeBasePort } from '@m2/supervisor';
import { parseArgs } from 'node:util';
import { setTimeout as pause } from 'node:timers/promises';
import { BareOperations } from './bare.js';
import { CostCounter, type Costs } from './costs.js';
import { percentile, round } from './numbers.js';

/**
 * The control plane's time per provision, from the request's acceptance to the node's power-on, against the bare operations (clone and attach,
 * export, power command) of the same run and the same number at once. BMCs are simulated (ipmi_sim without a machine); everything else is real,
 * durable commits included.
 *
 * `overheadMs` is a provision's time less the median time of the bare operations.
 */
interface Run {
  nodes: number;
  overheadMsP50: number;
  overheadMsP99: number;
  nodesPerSecond: number;
  /** Milliseconds, medians; `accept` is the answer to the request, `queue` the time until a runner has the operation. */
  phases: Record<string, number>;
  /** Milliseconds, medians, of the drivers alone; and how many a second they do. */
  bare: { clone: number; export: number; power: number; total: number; nodesPerSecond: number };
  /** With `--costs`: per provision. */
  costs?: Costs;
}

const { values } = parseArgs({
  options: {
    nodes: { type: 'string', multiple: true },
    json: { type: 'boolean', default: false },
    costs: { type: 'boolean', default: false },
  },
});
const counts = (values.nodes ?? ['1', '8', '24', '100', '300']).map(Number);
if (counts.some((count) => !Number.isInteger(count) || count < 1 || count > 1000)) {
  process.stderr.write('--nodes takes a number from 1 to 1000, and may be given several times\n');
  process.exit(2);
}

const say = (line: string) => process.stderr.write(`${line}\n`);
const params = { project: 'demo' };

const most = Math.max(...counts);
const nodes = Array.from({ length: most }, (_, index) => ({ name: `bench-${index + 1}`, firmware: 'none' as const }));
const stage = await startStage({ nodes, network: 'user', report: say });
let bare: BareOperations | undefined;
try {
  bare = await BareOperations.open(stage.dir, (await findFreeBasePort()) + 20, stage.image.path);
  const source = { kind: 'file' as const, path: stage.image.path };
  await succeed(await stage.client.call('imageImport', { params, body: { name: 'lab', source } }));
  // A first one of everything, so that no run pays for what is done once: a tenant's first target process, compiled code.
  await provisions(8);
  const runs: Run[] = [];
  for (const count of counts) runs.push(await measure(stage, bare, count));
  if (values.costs) await count(runs);
  process.stdout.write(values.json ? `${JSON.stringify({ runs }, null, 2)}\n` : table(runs));
} finally {
  await bare?.close();
  await stage.close();
}

async function measure({ lab }: Stage, drivers: BareOperations, count: number): Promise<Run> {
  say(`${count} at once`);
  const alone = await drivers.run(lab.nodes.slice(0, count));
  const total = percentile(alone.total, 0.5);
  const { operations, accepted } = await provisions(count);
  const spans = operations.map(
    (operation) => Date.parse(step(operation, 'power-on').endedAt ?? '') - Date.parse(operation.createdAt),
  );
  const first = Math.min(...operations.map(({ createdAt }) => Date.parse(createdAt)));
  const last = Math.max(...operations.map((operation) => Date.parse(step(operation, 'power-on').endedAt ?? '')));
  return {
    nodes: count,
    overheadMsP50: round(percentile(spans, 0.5) - total),
    overheadMsP99: round(percentile(spans, 0.99) - total),
    nodesPerSecond: round(count / ((last - first) / 1000)),
    phases: { accept: round(percentile(accepted, 0.5)), total: round(percentile(spans, 0.5)), ...phasesOf(operations) },
    bare: {
      clone: round(percentile(alone.clone, 0.5)),
      export: round(percentile(alone.export, 0.5)),
      power: round(percentile(alone.power, 0.5)),
      total: round(total),
      nodesPerSecond: round(count / (alone.wallMs / 1000)),
    },
  };
}

function step(operation: Operation, name: string) {
  return operation.steps.find((one) => one.name === name)!;
}

function phasesOf(operations: Operation[]): Record<string, number> {
  const names = operations[0]!.steps.filter(({ state }) => state === 'done').map(({ name }) => name);
  const median = (name: string) =>
    percentile(
      operations.map((operation) => {
        const { startedAt, endedAt } = step(operation, name);
        return Date.parse(endedAt ?? '') - Date.parse(startedAt ?? '');
      }),
      0.5,
    );
  const queue = operations.map(({ createdAt, startedAt }) => Date.parse(startedAt ?? '') - Date.parse(createdAt));
  return { queue: percentile(queue, 0.5), ...Object.fromEntries(names.map((name) => [name, median(name)])) };
}

async function count(runs: Run[]): Promise<void> {
  const counter = await CostCounter.open(stage);
  for (const each of runs) {
    let made: Operation[] = [];
    // A single one says little: what a heartbeat or a sweep does in that moment would count.
    const rounds = Math.ceil(8 / each.nodes);
    const costs: Costs[] = [];
    for (let at = 0; at < rounds; at += 1) {
      costs.push(await counter.of(each.nodes, async () => ({ operations: made } = await provide(each.nodes))));
      await takeBack(made);
    }
    const mean = (key: keyof Costs) => round(costs.reduce((sum, one) => sum + one[key], 0) / rounds);
    each.costs = {
      statements: mean('statements'),
      commits: mean('commits'),
      messagesSent: mean('messagesSent'),
      messagesDelivered: mean('messagesDelivered'),
    };
    say(`${each.nodes} at once: ${JSON.stringify(each.costs)}`);
  }
}

/** Provisions `count` nodes at once, up to power-on, and takes it all back. */
async function provisions(nodeCount: number): Promise<{ operations: Operation[]; accepted: number[] }> {
  const made = await provide(nodeCount);
  await takeBack(made.operations);
  return made;
}

async function provide(nodeCount: number): Promise<{ operations: Operation[]; accepted: number[] }> {
  const accepted: number[] = [];
  const asked = await Promise.all(
    nodes.slice(0, nodeCount).map(async ({ name }) => {
      const started = performance.now();
      const body = { node: name, image: 'lab', waitFor: 'ready' as const };
      const operation = await stage.client.call('provisionCreate', { params, body });
      accepted.push(performance.now() - started);
      return operation;
    }),
  );
  await allEnded();
  const operations = await Promise.all(asked.map(({ id }) => stage.client.call('operationShow', { params: { id } })));
  const failed = operations.find(({ state }) => state !== 'succeeded');
  if (failed)
    throw new Error(`A provision ended ${failed.state}: ${JSON.stringify(failed.error)} ${failed.attention ?? ''}`);
  return { operations, accepted };
}

async function takeBack(operations: Operation[]): Promise<void> {
  await Promise.all(
    operations.map(({ about }) =>
      stage.client.call('provisionDelete', {
        params: { ...params, id: about['provision']! },
        query: { disk: 'delete' },
      }),
    ),
  );
  await allEnded();
}

/** Watching hundreds of operations one by one would itself be a load. */
async function allEnded(): Promise<void> {
  for (;;) {
    const { items } = await stage.client.call('operationList', { query: { state: 'running', limit: 1 } });
    if (items.length === 0) return;
    await pause(100);
  }
}

async function succeed(operation: Operation): Promise<void> {
  const ended = await untilEnded(stage.client, operation.id);
  if (ended.state !== 'succeeded')
    throw new Error(`${ended.kind} ended ${ended.state}: ${JSON.stringify(ended.error)}`);
}

function table(runs: Run[]): string {
  const head = ['nodes', 'overhead p50', 'p99', 'nodes/s', 'bare total', 'bare nodes/s'];
  const rows = runs.map((run) =>
    [
      run.nodes,
      `${run.overheadMsP50} ms`,
      `${run.overheadMsP99} ms`,
      run.nodesPerSecond,
      `${run.bare.total} ms`,
      run.bare.nodesPerSecond,
    ].map(String),
  );
  const lines = [head, ...rows].map((row) => row.map((cell) => cell.padStart(13)).join(''));
  const phases = runs.map(({ nodes: count, phases: parts }) => `${count}: ${JSON.stringify(parts)}`);
  return `${[...lines, '', ...phases].join('\n')}\n`;
}
