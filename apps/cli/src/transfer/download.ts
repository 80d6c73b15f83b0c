import { createHash } from 'node:crypto';
import { rename, rm, stat } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import type { App } from '../app.js';
import type { M2Client } from '../client.js';
import { ApiError, CliError, UnreachableError, usageError } from '../errors.js';
import { exitCodes } from '../exit-codes.js';
import { progressBar } from '../output/progress.js';
import { untilInterrupt } from '../watch.js';
import { brokenTransfer, fileError } from './errors.js';
import { SparseFile } from './sparse-file.js';

/** What is downloaded. */
export interface Content {
  open: (client: M2Client, options: { range?: string | undefined; signal: AbortSignal }) => Promise<Response>;
  /** What the bytes are of, when they are the same each time, so that a part of them can be completed later; null: they may change. */
  identity: string | null;
}

export interface Downloaded {
  file: string;
  bytes: number;
  /** How many of them were there from an earlier try. */
  resumed: number;
}

const attempts = 6;

/**
 * Downloads to a file, or to standard output for `-`. A file is there under its name when it is complete, and not before. Throws CliError
 * `cli.exists` where there is one and it was not said to replace it.
 */
export async function download(app: App, content: Content, path: string, force: boolean): Promise<Downloaded> {
  if (path === '-') return toOutput(app, content);
  await refuseExisting(path, force);
  const { identity } = content;
  const part = `${path}.${identity === null ? process.pid : createHash('sha256').update(identity).digest('hex').slice(0, 12)}.part`;
  const goodbye = identity === null ? '' : '\nRun the same command again to go on from here.';
  try {
    const result = await untilInterrupt(app, goodbye, (signal) => complete(app, content, part, signal));
    await rename(part, path).catch((error: unknown) => {
      throw fileError(path, error);
    });
    return { file: path, ...result };
  } finally {
    // A part that cannot be completed helps nobody.
    if (identity === null) await rm(part, { force: true });
  }
}

/** Fetches what the part lacks, however often the connection breaks, as long as there is more each time. */
async function complete(app: App, content: Content, part: string, signal: AbortSignal) {
  const bar = progressBar(app.world.stderr, 'download', app.world.env);
  let done = content.identity === null ? 0 : await sizeOf(part);
  let resumed = done;
  const advance = (position: number, total: number | null) => {
    // An answer may begin earlier than it was asked to.
    resumed = Math.min(resumed, position);
    done = position;
    bar.update(position, total);
  };
  try {
    for (let attempt = 1; ; attempt += 1) {
      const before = done;
      try {
        await append(app, content, part, done, signal, advance);
        return { bytes: done, resumed };
      } catch (error) {
        signal.throwIfAborted();
        if (done > before) attempt = 1;
        // There is nothing from there on: what is in the part is not what it was thought to be.
        if (error instanceof ApiError && error.status === 416 && done > 0) done = 0;
        else if (content.identity === null || !isTransient(error) || attempt >= attempts) throw error;
      }
      await pause(Math.min(5_000, 100 * 2 ** attempt), undefined, { signal });
    }
  } finally {
    bar.end();
  }
}

async function append(
  app: App,
  { open }: Content,
  part: string,
  from: number,
  signal: AbortSignal,
  advance: (position: number, total: number | null) => void,
): Promise<void> {
  const range = from > 0 ? `bytes=${from}-` : undefined;
  const response = await open(await app.client(), { range, signal });
  const { start, total } = extentOf(response);
  const file = await SparseFile.open(part, start);
  try {
    advance(start, total);
    for await (const chunk of bodyOf(response)) {
      await file.write(chunk);
      advance(file.position, total);
    }
  } finally {
    await file.close();
  }
  if (total !== null && file.position !== total)
    throw brokenTransfer(`it ended after ${file.position} of ${total} bytes`);
}

async function toOutput(app: App, content: Content): Promise<Downloaded> {
  const { stdout, stderr, env } = app.world;
  if (stdout.isTTY) throw usageError('a terminal is no place for a disk', 'Redirect the output: m2 … - > FILE.');
  const bar = progressBar(stderr, 'download', env);
  try {
    return await untilInterrupt(app, '', async (signal) => {
      const response = await content.open(await app.client(), { signal });
      const { total } = extentOf(response);
      let bytes = 0;
      for await (const chunk of bodyOf(response)) {
        await new Promise<void>((resolve, reject) =>
          stdout.write(chunk, (error) => (error ? reject(fileError('standard output', error)) : resolve())),
        );
        bytes += chunk.length;
        bar.update(bytes, total);
      }
      if (total !== null && bytes !== total) throw brokenTransfer(`it ended after ${bytes} of ${total} bytes`);
      return { file: '-', bytes, resumed: 0 };
    });
  } finally {
    bar.end();
  }
}

async function* bodyOf({ body }: Response): AsyncGenerator<Uint8Array> {
  try {
    if (body) yield* body;
  } catch (error) {
    throw brokenTransfer((error as { cause?: unknown }).cause ?? error);
  }
}

/** Where the answer begins, and how long the whole is (RFC 9110, sections 14.4 and 8.6). */
function extentOf({ status, headers }: Response): { start: number; total: number | null } {
  const length = headers.get('content-length');
  const [, start, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(headers.get('content-range') ?? '') ?? [];
  if (status === 206 && start !== undefined && total !== undefined)
    return { start: Number(start), total: Number(total) };
  return { start: 0, total: length === null ? null : Number(length) };
}

const isTransient = (error: unknown) =>
  error instanceof UnreachableError ||
  (error instanceof ApiError && [503, 504].includes(error.status)) ||
  (error instanceof CliError && error.code === 'cli.broken_transfer');

async function sizeOf(path: string): Promise<number> {
  return (await stat(path).catch(() => undefined))?.size ?? 0;
}

async function refuseExisting(path: string, force: boolean): Promise<void> {
  const there = await stat(path).catch(() => undefined);
  if (!there) return;
  if (!there.isFile()) throw usageError(`${path} is not a file`, 'Name a file, or - for standard output.');
  if (force) return;
  throw new CliError({
    code: 'cli.exists',
    title: 'There is such a file already',
    detail: path,
    remedy: 'Name another one, or replace it with --force.',
    exitCode: exitCodes.conflict,
  });
}
