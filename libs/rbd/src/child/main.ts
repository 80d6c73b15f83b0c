import type { Failure, FromChild, Setup, ToChild } from '../protocol.ts';
import type { Context } from './context.ts';
import type { Operations } from './operations.ts';

/**
 * The child process that holds the connection to the cluster. It lives as long as its parent. librbd may abort or hang its process, and
 * then only this one has to be killed.
 */

const progressIntervalMs = 50;
const running = new Map<number, { controller: AbortController; done: Promise<void> }>();
const setup = Promise.withResolvers<Setup>();
const begin = Promise.withResolvers<void>();
const libraries = setup.promise.then(connect);
libraries.catch((error: unknown) => send({ type: 'unconnected', ...failureOf(error, 'connect') }));

/** `process.send` calls back when the message is written. The last message must be. */
const send = (message: FromChild) => new Promise<void>((resolve) => process.send?.(message, () => resolve()));

process.on('message', (message: ToChild) => {
  if (message.type === 'setup') {
    setup.resolve(message.setup);
  } else if (message.type === 'begin') {
    begin.resolve();
  } else if (message.type === 'call') {
    const controller = new AbortController();
    const done = call(message.id, message.operation, message.args, controller.signal);
    running.set(message.id, { controller, done: done.finally(() => running.delete(message.id)) });
  } else if (message.type === 'cancel') {
    running.get(message.id)?.controller.abort();
  } else {
    void close();
  }
});

/** How long a child without a parent may take to end. The next one fences it anyway. */
const orphanMs = 2000;

// The parent is gone, so nothing that was begun may go on for long: the next process looks at what is there. It ends in good order, if it
// can: an OSD keeps the watch of a client that dies just when it registers the watch, and then nobody can remove the image
// (osd/PrimaryLogPG.cc, do_osd_op_effects: the session is gone).
process.on('disconnect', () => {
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), orphanMs);
  for (const { controller } of running.values()) controller.abort();
  void Promise.all([...running.values()].map(({ done }) => done)).then(close);
});
// Ctrl-C in a terminal or a stop by a service manager goes to the whole group, and the parent still has calls to finish.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});

async function connect(setup: Setup) {
  // Imported here and not at the top, so that a machine without librbd gives an error and no crash.
  const [{ Cluster }, { operations }, { closeAllHandles }] = await Promise.all([
    import('./cluster.ts'),
    import('./operations.ts'),
    import('./handles.ts'),
  ]);
  const cluster = await Cluster.connect(setup);
  void send({ type: 'connected', address: cluster.address });
  await begin.promise;
  return { cluster, operations, closeAllHandles };
}

async function call(id: number, name: string, args: unknown[], signal: AbortSignal): Promise<void> {
  try {
    const { cluster, operations } = await libraries;
    const context: Context = { cluster, signal, progress: progressOf(id) };
    const operation = operations[name as keyof Operations] as (
      context: Context,
      ...args: unknown[]
    ) => Promise<unknown>;
    void send({ type: 'answer', id, value: await operation(context, ...args) });
  } catch (error) {
    void send({ type: 'failure', id, ...failureOf(error, name) });
  }
}

/** A message for every object would keep both processes busy. */
function progressOf(id: number): Context['progress'] {
  let sent = 0;
  return (done, total) => {
    const now = performance.now();
    if (now - sent < progressIntervalMs && done !== total) return;
    sent = now;
    void send({ type: 'progress', id, done, total });
  };
}

function failureOf(error: unknown, name: string): Failure {
  const { call, errno, text, message } = error as Partial<Failure> & { message?: string };
  // An error of Node's has a negative errno and names its system call.
  const number = errno === undefined ? {} : { errno: Math.abs(errno) };
  const said = call === undefined ? (message ?? String(error)) : text;
  return { call: call ?? name, ...number, ...(said !== undefined && { text: said }) };
}

async function close(): Promise<void> {
  const { cluster, closeAllHandles } = await libraries;
  await closeAllHandles();
  await cluster.shutdown();
  // An explicit exit: koffi's threads would keep the event loop alive.
  process.exit(0);
}
