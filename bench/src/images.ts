import { startStage } from '@m2/cli';
import { open, rm } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { bootReads } from './images/boot-reads.js';
import { importImage } from './images/operations.js';
import { commandLine, librbd, ours, type Way } from './images/ways.js';
import { percentile, round } from './numbers.js';

/**
 * What image operations cost on Ceph: ours (the storage backend as image-svc calls it; a download through the gateway), librbd's own
 * functions, and the `rbd` command line, in turn in the same run on the same cluster. Milliseconds, medians.
 */
interface Cost {
  oursMs: number;
  librbdMs: number;
  cliMs: number;
}

const { values } = parseArgs({ options: { json: { type: 'boolean', default: false } } });
const say = (line: string) => process.stderr.write(`${line}\n`);
const rounds = 15;
const importRounds = 3;
const importBytes = 2 ** 30;
const stage = await startStage({
  nodes: [{ name: 'bench-1', firmware: 'bios' }],
  network: 'user',
  storage: 'ceph',
  report: say,
});
try {
  const ceph = stage.ceph!;
  const ways = { ours: await ours(stage, ceph), librbd: await librbd(ceph), cli: commandLine(ceph) };
  const times: Record<string, { ours: number[]; librbd: number[]; cli: number[] }> = {};
  const measure = async (
    operation: string,
    way: keyof typeof ways,
    work: (way: Way) => Promise<unknown>,
    parts = 1,
  ) => {
    const of = (times[operation] ??= { ours: [], librbd: [], cli: [] });
    const started = performance.now();
    await work(ways[way]);
    of[way].push((performance.now() - started) / parts);
  };
  const names = Object.keys(ways) as (keyof typeof ways)[];
  const path = join(dirname(stage.image.path), `bench-${process.pid}.raw`);
  const copy = `${path}.copy`;
  await makeImage(path);
  try {
    say('imports and downloads');
    for (let n = 0; n < importRounds; n += 1)
      for (const way of names) await measure('import', way, (one) => one.import(n, path));
    await importImage(stage, 'download', path);
    for (let n = 0; n < importRounds; n += 1)
      for (const way of names) {
        await measure('download', way, (one) => one.download(copy));
        await rm(copy);
      }
    say('one at a time');
    for (let n = 0; n <= rounds; n += 1)
      for (const way of names) {
        // The first of each pays for connections, namespaces and compiled code.
        const count =
          n === 0 ? async (_: string, __: string, work: (one: Way) => Promise<unknown>) => work(ways[way]) : measure;
        await count('clone', way, (one) => one.clone(n));
        await count('tag', way, (one) => one.tag(n));
        await count('untag', way, (one) => one.untag(n));
        await count('resize', way, (one) => one.resize(n, importBytes + (n + 1) * 2 ** 20));
        await count('remove', way, (one) => one.remove(n));
      }
    for (const many of [24, 100]) {
      say(`${many} at once`);
      const all = (work: (n: number) => Promise<unknown>) =>
        Promise.all(Array.from({ length: many }, (_, n) => work(1_000 + n)));
      for (let round = 0; round < 3; round += 1)
        for (const way of names) {
          await measure(`clone${many}`, way, (one) => all((n) => one.clone(n)), many);
          await measure(`remove${many}`, way, (one) => all((n) => one.remove(n)), many);
        }
    }
    for (const way of names) for (let n = 0; n < importRounds; n += 1) await ways[way].removeImport(n);
    say('a boot');
    const boot = await bootReads(stage, ceph);
    const operations = Object.fromEntries(
      Object.entries(times).map(([operation, { ours: a, librbd: b, cli: c }]): [string, Cost] => [
        operation,
        { oursMs: median(a), librbdMs: median(b), cliMs: median(c) },
      ]),
    );
    process.stdout.write(
      values.json ? `${JSON.stringify({ operations, ...boot }, null, 2)}\n` : table(operations, boot),
    );
  } finally {
    for (const way of Object.values(ways)) await way.close();
    await rm(path, { force: true });
  }
} finally {
  await stage.close();
}

function median(list: number[]): number {
  return round(percentile(list, 0.5));
}

/** Half of it data, in pieces of 4 MiB, and half holes: an image as it is. */
async function makeImage(file: string): Promise<void> {
  const handle = await open(file, 'w');
  const piece = 4 * 2 ** 20;
  for (let at = 0; at < importBytes; at += 2 * piece) await handle.write(randomBytes(piece), 0, piece, at);
  // A boot sector's signature: without it the file is no disk.
  await handle.write(Buffer.from([0x55, 0xaa]), 0, 2, 510);
  await handle.truncate(importBytes);
  await handle.sync();
  await handle.close();
}

function table(
  operations: Record<string, Cost>,
  { bootReadBytes, bootImageBytes }: { bootReadBytes: number; bootImageBytes: number },
): string {
  const head = ['', 'ours ms', 'librbd ms', 'rbd ms', 'ours/librbd', 'rbd/ours'];
  const rows = Object.entries(operations).map(([operation, { oursMs, librbdMs, cliMs }]) =>
    [operation, oursMs, librbdMs, cliMs, round(oursMs / librbdMs), round(cliMs / oursMs)].map(String),
  );
  const lines = [head, ...rows].map((row) => row.map((cell) => cell.padStart(13)).join(''));
  const share = round((bootReadBytes / bootImageBytes) * 100);
  return `${lines.join('\n')}\n\nA boot read ${bootReadBytes} bytes of ${bootImageBytes}, ${share} %.\n`;
}
