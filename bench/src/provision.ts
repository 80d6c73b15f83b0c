import { type Stage, untilEnded } from '@m2/cli';
import type { Operation } from '@m2/contracts';
import { findFreeBasePort } from '@m2/supervisor';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { BareOperations } from './bare.js';
import { CostCounter, type Costs } from './costs.js';
import { between, type Cpu, cpuOf } from './cpu.js';
import { filled, fillHistory } from './fill.js';
import { percentile, round } from './numbers.js';
import { type OperationCosts, operationCosts } from './operation-costs.js';
import { deprovision, outcomes, provision, provisionUnseen } from './provisions.js';
import { type BenchNode, startRack } from './rack.js';

/**
 * The control plane's time per provision, from the request's acceptance to the node's power-on, against the bare operations (clone and attach,
 * export, power command) of the same run and the same number at once. BMCs are simulated; everything else is real, durable commits included.
 *
 * `overheadMs` is a provision's time less the median time of the bare operations.
 */
interface Run {
  nodes: number;
  overheadMsP50: number;
  overheadMsP99: number;
  nodesPerSecond: number;
  /** Milliseconds of processor time per provision. */
  cpuMs: Cpu;
  /** The same of each program. */
  programs: Record<string, number>;
  /** The share of the processors' time in which they had nothing to do. */
  idleShare: number;
  /** Milliseconds, medians; `accept` is the answer to the request, `queue` the time until a runner has the operation. */
  phases: Record<string, number>;
  /** Milliseconds, medians, of the drivers alone; and how many a second they do. */
  bare: { clone: number; export: number; power: number; total: number; nodesPerSecond: number };
  /** With `--costs`: per provision. */
  costs?: Costs;
}

/** The same with very much there, and how many times what it costs with nothing. */
interface Full {
  filled: typeof filled;
  runs: Run[];
  /** `controlPlane` of each run. */
  ratios: number[];
  operations: Record<string, { emptyMs: number; fullMs: number; ratio: number }>;
}

const { values } = parseArgs({
  options: {
    nodes: { type: 'string', multiple: true },
    json: { type: 'boolean', default: false },
    bmc: { type: 'string', default: 'ipmi_sim' },
    full: { type: 'boolean', default: false },
    costs: { type: 'boolean', default: false },
  },
});
const counts = (values.nodes ?? ['1', '8', '24', '100', '300']).map(Number);
if (counts.some((count) => !Number.isInteger(count) || count < 1 || count > 1000)) {
  process.stderr.write('--nodes takes a number from 1 to 1000, and may be given several times\n');
  process.exit(2);
}
if (values.bmc !== 'ipmi_sim' && values.bmc !== 'responder') {
  process.stderr.write('--bmc takes ipmi_sim or responder\n');
  process.exit(2);
}
if (values.full && values.bmc !== 'responder') {
  process.stderr.write('--full has a thousand more nodes, and goes with --bmc responder\n');
  process.exit(2);
}

const say = (line: string) => process.stderr.write(`${line}\n`);
/** A round of few is short, so there are more; the first of each is not counted. */
const roundsOf = (count: number) => (count >= 100 ? 2 : count >= 24 ? 4 : 10);

/** One storage daemon shows a few more than a thousand disks (`mostDisks`), so beside a thousand exports only small numbers are measured. */
const mostBesideFull = 8;
const most = Math.max(...counts);
const rack = await startRack(most + (values.full ? filled.exports : 0), values.bmc, say);
const { stage } = rack;
const { client } = stage;
let bare: BareOperations | undefined;
try {
  bare = await BareOperations.open(stage.dir, (await findFreeBasePort()) + 20, stage.image.path);
  const source = { kind: 'file' as const, path: stage.image.path };
  await succeed(await client.call('imageImport', { params: { project: 'demo' }, body: { name: 'lab', source } }));
  // A first one of everything, so that no run pays for what is done once: a tenant's first target process, compiled code.
  await warmUp(8);
  const idleMsPerSecond = await idle(stage);
  const runs = await measureAll(bare);
  const full = values.full ? await withMuch(bare, runs) : undefined;
  // Last: what counts them slows everything down.
  if (values.costs) await countCosts(runs);
  const found = { bmc: values.bmc, idleMsPerSecond, runs, ...(full && { full }) };
  process.stdout.write(
    values.json ? `${JSON.stringify(found, null, 2)}\n` : `${table(runs)}${full ? fullTable(full) : ''}`,
  );
} finally {
  await bare?.close();
  await rack.close();
}

/** What is used while nobody asks for anything; it is in each provision's processor time too, for as long as that takes. */
async function idle({ dir }: Stage): Promise<Cpu> {
  const seconds = 6;
  const before = cpuOf(dir);
  await pause(seconds * 1_000);
  return between(before, cpuOf(dir), seconds).cpuMs;
}

async function measureAll(drivers: BareOperations, numbers = counts): Promise<Run[]> {
  const runs: Run[] = [];
  for (const count of numbers) runs.push(await measure(stage, drivers, rack.nodes.slice(0, count)));
  return runs;
}

async function withMuch(drivers: BareOperations, empty: Run[]): Promise<Full> {
  const before = await operationCosts(client, stage.dir, rack.nodes[0]!);
  say(`${filled.operations} operations and ${filled.disks} disks`);
  const { id } = await client.call('projectShow', { params: { project: 'demo' } });
  await fillHistory(stage.state, client, id);
  for (let at = most; at < rack.nodes.length; at += 100) {
    say(`${at - most} of ${filled.exports} exports`);
    await provision(client, rack.nodes.slice(at, at + 100));
  }
  await warmUp(8);
  const runs = await measureAll(
    drivers,
    counts.filter((count) => count <= mostBesideFull),
  );
  const after = await operationCosts(client, stage.dir, rack.nodes[0]!);
  return {
    filled,
    runs,
    ratios: runs.map(({ nodes, cpuMs }) =>
      ratio(cpuMs.controlPlane, empty.find((run) => run.nodes === nodes)!.cpuMs.controlPlane),
    ),
    operations: compared(before, after),
  };
}

function ratio(full: number, empty: number): number {
  return Math.round((full / empty) * 100) / 100;
}

function compared(empty: OperationCosts, full: OperationCosts): Full['operations'] {
  return Object.fromEntries(
    Object.entries(empty).map(([name, emptyMs]) => [
      name,
      { emptyMs, fullMs: full[name]!, ratio: ratio(full[name]!, emptyMs) },
    ]),
  );
}

async function warmUp(count: number): Promise<void> {
  const { operations } = await provision(client, rack.nodes.slice(0, count));
  await deprovision(client, operations);
}

async function measure({ dir }: Stage, drivers: BareOperations, nodes: BenchNode[]): Promise<Run> {
  const count = nodes.length;
  say(`${count} at once`);
  const alone = await drivers.run(nodes);
  const total = percentile(alone.total, 0.5);
  await deprovision(client, (await provision(client, nodes)).operations);
  const rounds: Awaited<ReturnType<typeof timedRound>>[] = [];
  for (let n = 0; n < roundsOf(count); n++) rounds.push(await timedRound(dir, nodes));
  const operations = rounds.flatMap((one) => one.operations);
  const spans = operations.map(spanOf);
  const average = (of: (one: (typeof rounds)[number]) => number) =>
    round(rounds.reduce((sum, one) => sum + of(one), 0) / rounds.length);
  return {
    nodes: count,
    overheadMsP50: round(percentile(spans, 0.5) - total),
    overheadMsP99: round(percentile(spans, 0.99) - total),
    nodesPerSecond: round(count / (average(({ wallMs }) => wallMs) / 1000)),
    cpuMs: {
      controlPlane: average(({ cpuMs }) => cpuMs.controlPlane),
      drivers: average(({ cpuMs }) => cpuMs.drivers),
      simulator: average(({ cpuMs }) => cpuMs.simulator),
    },
    programs: Object.fromEntries(
      Object.keys(rounds[0]!.programs).map((name) => [name, average(({ programs }) => programs[name] ?? 0)]),
    ),
    idleShare: round(average(({ idleShare }) => idleShare * 100)) / 100,
    phases: {
      accept: round(
        percentile(
          rounds.flatMap(({ accepted }) => accepted),
          0.5,
        ),
      ),
      total: round(percentile(spans, 0.5)),
      ...phasesOf(operations),
    },
    bare: {
      clone: round(percentile(alone.clone, 0.5)),
      export: round(percentile(alone.export, 0.5)),
      power: round(percentile(alone.power, 0.5)),
      total: round(total),
      nodesPerSecond: round(count / (alone.wallMs / 1000)),
    },
  };
}

/** Provisions the nodes and takes that back; only the first is measured. */
async function timedRound(directory: string, nodes: BenchNode[]) {
  const before = cpuOf(directory);
  const { ids, accepted } = await provisionUnseen(client, nodes);
  const used = between(before, cpuOf(directory), nodes.length);
  const operations = await outcomes(client, ids);
  await deprovision(client, operations);
  const first = Math.min(...operations.map(({ createdAt }) => Date.parse(createdAt)));
  const last = Math.max(...operations.map((operation) => Date.parse(step(operation, 'power-on').endedAt ?? '')));
  return { operations, accepted, wallMs: last - first, ...used };
}

function spanOf(operation: Operation): number {
  return Date.parse(step(operation, 'power-on').endedAt ?? '') - Date.parse(operation.createdAt);
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

async function countCosts(runs: Run[]): Promise<void> {
  const counter = await CostCounter.open(stage);
  for (const each of runs) {
    const nodes = rack.nodes.slice(0, each.nodes);
    // A single one says little: what a heartbeat or a sweep does in that moment would count.
    const rounds = Math.ceil(8 / each.nodes);
    const costs: Costs[] = [];
    for (let at = 0; at < rounds; at += 1) {
      let made: Operation[] = [];
      costs.push(await counter.of(each.nodes, async () => ({ operations: made } = await provision(client, nodes))));
      await deprovision(client, made);
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

async function succeed(operation: Operation): Promise<void> {
  const ended = await untilEnded(client, operation.id);
  if (ended.state !== 'succeeded')
    throw new Error(`${ended.kind} ended ${ended.state}: ${JSON.stringify(ended.error)}`);
}

function linesOf(rows: string[][]): string[] {
  return rows.map((row) => row.map((cell) => cell.padStart(13)).join(''));
}

function table(runs: Run[]): string {
  const head = [
    'nodes',
    'overhead p50',
    'p99',
    'nodes/s',
    'bare total',
    'control plane',
    'drivers',
    'simulator',
    'idle',
  ];
  const rows = runs.map((run) =>
    [
      run.nodes,
      `${run.overheadMsP50} ms`,
      `${run.overheadMsP99} ms`,
      run.nodesPerSecond,
      `${run.bare.total} ms`,
      `${run.cpuMs.controlPlane} ms`,
      `${run.cpuMs.drivers} ms`,
      `${run.cpuMs.simulator} ms`,
      `${Math.round(run.idleShare * 100)} %`,
    ].map(String),
  );
  const phases = runs.map(({ nodes: count, phases: parts }) => `${count}: ${JSON.stringify(parts)}`);
  return `${[...linesOf([head, ...rows]), '', ...phases].join('\n')}\n`;
}

function fullTable({ runs, ratios, operations }: Full): string {
  const costs = Object.entries(operations).map(
    ([name, { emptyMs, fullMs, ratio: times }]) =>
      [`${emptyMs} ms`, `${fullMs} ms`, `${times}`].map((cell) => cell.padStart(13)).join('') + `  ${name}`,
  );
  return `\nfull\n${table(runs)}ratios: ${ratios.join(', ')}\n\n${costs.join('\n')}\n`;
}
