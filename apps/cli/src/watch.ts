import type { Operation } from '@m2/contracts';
import type { App } from './app.js';
import { operationError, protocolError } from './errors.js';
import { exitCodes } from './exit-codes.js';
import { styleOf } from './output/style.js';
import { stepView } from './output/steps.js';
import { formatDuration } from './output/units.js';
import { Exit } from './world.js';

export const hasEnded = ({ state }: Operation) => state !== 'running' && state !== 'undoing';

/** Runs `work` with a signal that Ctrl-C aborts; `goodbye` is said then, and the command ends as interrupted. */
export async function untilInterrupt<T>(
  app: App,
  goodbye: string,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const interrupt = new AbortController();
  const off = app.world.onInterrupt(() => interrupt.abort());
  try {
    const result = await work(interrupt.signal);
    interrupt.signal.throwIfAborted();
    return result;
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
    if (goodbye) app.note(goodbye);
    throw new Exit(exitCodes.interrupted);
  } finally {
    off();
  }
}

/**
 * Shows an operation's steps on standard error until it ends, and returns it as it ended. Ctrl-C leaves it running. `each` sees
 * every state of it that the stream brings.
 */
export async function watchOperation(app: App, id: string, each?: (operation: Operation) => void): Promise<Operation> {
  const client = await app.client();
  const view = stepView(app.world.stderr, styleOf(app.world.stderr, app.world.env), app.world.env);
  const goodbye = `\nThe operation goes on. Watch it: m2 operation show ${id} --watch; stop it: m2 operation cancel ${id}`;
  try {
    return await untilInterrupt(app, goodbye, async (signal) => {
      for await (const operation of client.stream('operationShow', { params: { id } }, signal)) {
        view.update(operation);
        each?.(operation);
        if (hasEnded(operation)) return operation;
      }
      throw protocolError('the stream ended before the operation did');
    });
  } finally {
    view.end();
  }
}

/**
 * Says that an operation was accepted and, unless `wait` is false, waits for its end. Programs get the operation, people what
 * `made` shows of its result. Throws when it did not end as asked.
 */
export async function follow(
  app: App,
  accepted: Operation,
  { wait, made }: { wait: boolean; made?: () => Promise<string> },
): Promise<void> {
  app.note(`${accepted.kind}: operation ${accepted.id}`);
  if (!wait) return app.print(accepted, ({ id }) => `${id}\n`);
  const ended = await watchOperation(app, accepted.id);
  if (app.json) app.print(ended, String);
  concluded(app, ended);
  if (made && !app.json) app.data(await made());
}

/** Says how long an operation took; throws when it did not succeed. */
export function concluded(app: App, operation: Operation): void {
  if (operation.state !== 'succeeded') throw operationError(operation);
  const { startedAt, createdAt, endedAt, kind } = operation;
  const took = Date.parse(endedAt ?? createdAt) - Date.parse(startedAt ?? createdAt);
  app.note(`${kind}: succeeded in ${formatDuration(took)}`);
}
