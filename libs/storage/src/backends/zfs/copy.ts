import { pipeline } from 'node:stream/promises';
import { asStorageError, StorageError } from '../../storage.port.js';
import type { LongWork } from '../../storage.port.js';
import type { Source } from './dataset.js';
import { silenceMs } from './zfs-command.js';
import type { ZfsCommand } from './zfs-command.js';

/**
 * Copies the content of a snapshot to the new dataset and snapshot `target`, which depends on nothing. Shared blocks are copied, holes are
 * not, and each block's checksum is verified on the way. After an error `target` does not exist. Progress stops before 100 %, because the
 * caller has more to do. Errors: those of `zfs`, the reason of an aborted signal.
 */
export async function copySnapshot(zfs: ZfsCommand, source: Source, target: string, work: LongWork): Promise<void> {
  work.signal?.throwIfAborted();
  const silent = new AbortController();
  const receiver = zfs.receive(target);
  let watchdog: NodeJS.Timeout | undefined;
  const watched = () => {
    clearTimeout(watchdog);
    const error = new StorageError('storage.timeout', `${target} stands still. Check the pool with "zpool status".`);
    watchdog = setTimeout(() => silent.abort(error), silenceMs);
  };
  const counted = async function* (chunks: AsyncIterable<Buffer>) {
    let moved = 0;
    for await (const chunk of chunks) {
      watched();
      yield chunk;
      moved += chunk.length;
      work.onProgress?.(Math.min(moved, source.sizeBytes - 1), source.sizeBytes);
    }
  };
  watched();
  try {
    const signal = AbortSignal.any([silent.signal, ...(work.signal ? [work.signal] : [])]);
    const piped = await failureOf(pipeline(zfs.send(source.snapshot), counted, receiver.stdin, { signal }));
    const received = await failureOf(receiver.ended());
    silent.signal.throwIfAborted();
    work.signal?.throwIfAborted();
    // When the sender failed, its error is the reason, and not the receiver's broken pipe or early end of stream.
    const failure = piped instanceof StorageError ? piped : (received ?? (closedEarly(piped) ? undefined : piped));
    if (failure) throw asStorageError(failure, `copy ${source.snapshot}`);
  } catch (error) {
    const [dataset = ''] = target.split('@');
    await ensureNone(zfs, dataset).catch(() => undefined);
    throw error;
  } finally {
    clearTimeout(watchdog);
  }
}

/** Removes a dataset with everything below it, or a snapshot. Error `storage.in_use`: they have clones, or it is open. */
export async function ensureNone(zfs: ZfsCommand, path: string): Promise<void> {
  await unlessAbsent(zfs.run('destroy', '-r', path));
}

/** Removes a dataset that has nothing below it. Error `storage.in_use`. */
export async function ensureNoEmpty(zfs: ZfsCommand, path: string): Promise<void> {
  await unlessAbsent(zfs.run('destroy', path));
}

async function unlessAbsent(removed: Promise<unknown>): Promise<void> {
  try {
    await removed;
  } catch (error) {
    if (!(error instanceof StorageError) || error.code !== 'storage.not_found') throw error;
  }
}

/** `zfs receive` ends at the stream's end record, and may close its input before that was flushed. It succeeds with a whole stream only. */
const closedEarly = (error: unknown) => (error as { code?: string } | undefined)?.code === 'ERR_STREAM_PREMATURE_CLOSE';

function failureOf(work: Promise<void>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => error,
  );
}
