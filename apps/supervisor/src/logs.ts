import {
  appendFileSync,
  closeSync,
  fstatSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  statSync,
  truncateSync,
} from 'node:fs';
import { copyFile, open, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Paths } from './state.js';

const maxLogBytes = 50 * 1024 * 1024;
/** How much of the end of a log is looked at for its last lines. */
const tailBytes = 64 * 1024;
const followEveryMs = 200;

export const logFile = (paths: Paths, name: string): string => join(paths.logs, `${name}.log`);

/** Never throws: whoever keeps the parts running must not end of a disk that is full. */
export function writeLine(paths: Paths, name: string, line: string): void {
  try {
    appendFileSync(logFile(paths, name), `${new Date().toISOString()} ${line}\n`, { mode: 0o600 });
  } catch {
    // There is nowhere to say it.
  }
}

/** Starts a log afresh; the one before is kept as `NAME.log.1`. */
export function rotateLog(paths: Paths, name: string): void {
  const file = logFile(paths, name);
  if (sizeOf(file) > 0) renameSync(file, `${file}.1`);
}

/**
 * Keeps the logs from filling the disk. Each process writes to its own log, so that it survives the supervisor, and never opens it again.
 * So the log is copied and then truncated in place: processes append, so they go on at its start. Where there is no room for a copy, none is
 * kept: room is what is needed then.
 */
export async function limitLogs(paths: Paths, maxBytes = maxLogBytes): Promise<void> {
  for (const name of logNames(paths)) {
    const file = logFile(paths, name);
    if (sizeOf(file) < maxBytes) continue;
    await copyFile(file, `${file}.1`).catch(() => rm(`${file}.1`, { recursive: true, force: true }));
    truncateSync(file);
  }
}

export function logNames(paths: Paths): string[] {
  return readdirSync(paths.logs)
    .filter((name) => name.endsWith('.log'))
    .map((name) => basename(name, '.log'))
    .sort();
}

/** The last lines of a log; none when there is no such log. */
export function lastLines(paths: Paths, name: string, count: number): string[] {
  let descriptor: number;
  try {
    descriptor = openSync(logFile(paths, name), 'r');
  } catch {
    return [];
  }
  try {
    const size = fstatSync(descriptor).size;
    const buffer = Buffer.alloc(Math.min(size, tailBytes));
    const read = readSync(descriptor, buffer, 0, buffer.length, size - buffer.length);
    const lines = buffer.toString('utf8', 0, read).split('\n');
    // The part begins within a line: skip to the first line break.
    if (size > buffer.length) lines.shift();
    return lines.filter((line) => line !== '').slice(-count);
  } finally {
    closeSync(descriptor);
  }
}

export interface LogLine {
  name: string;
  line: string;
}

/** The last lines of the logs (of one, or of all), then, when asked to follow, every new one until `signal` says stop. */
export async function* readLogs(
  paths: Paths,
  names: string[],
  options: { lines: number; follow: boolean; signal?: AbortSignal | undefined },
): AsyncGenerator<LogLine> {
  const tails = names.map((name) => ({ name, file: logFile(paths, name), at: sizeOf(logFile(paths, name)), rest: '' }));
  for (const { name } of tails) for (const line of lastLines(paths, name, options.lines)) yield { name, line };
  while (options.follow && !options.signal?.aborted) {
    for (const tail of tails) {
      const lines = (tail.rest + (await readFrom(tail))).split('\n');
      tail.rest = lines.pop() ?? '';
      for (const line of lines) yield { name: tail.name, line };
    }
    await pause(followEveryMs, undefined, options.signal ? { signal: options.signal } : {}).catch(() => {});
  }
}

async function readFrom(tail: { file: string; at: number }): Promise<string> {
  const size = sizeOf(tail.file);
  // It was truncated or replaced.
  if (size < tail.at) tail.at = 0;
  if (size === tail.at) return '';
  const handle = await open(tail.file, 'r');
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(size - tail.at), 0, size - tail.at, tail.at);
    tail.at += bytesRead;
    return buffer.toString('utf8', 0, bytesRead);
  } finally {
    await handle.close();
  }
}

function sizeOf(file: string): number {
  try {
    return statSync(file).size;
  } catch {
    return 0;
  }
}
