import type { Failure, FromChild, ToChild } from '../protocol.ts';
import type { Cluster } from './cluster.ts';
import type { Context } from './context.ts';
import type { Operations } from './operations.ts';

/**
 * The child process that holds the connection to the cluster. It lives as long as its parent. librbd may abort or hang its process, and
 * then only this one has to be killed.
 */

const progressIntervalMs = 50;
const running = new Map<number, AbortController>();
let libraries: Promise<{ cluster: Cluster; operations: Operations; closeAllHandles(): Promise<void> }>;

/** `process.send` calls back when the message is written. The last message must be. */
const send = (message: FromChild) => new Promise<void>((resolve) => process.send?.(message, () => resolve()));

process.on('message', (message: ToChild) => {
  if (message.type === 'setup') {
    libraries = connect(message.setup);
    libraries.catch((error: unknown) => send({ type: 'unconnected', ...failureOf(error, 'connect') }));
  } else if (message.type === 'call') {
    void call(message.id, message.operation, message.args);
  } else if (message.type === 'cancel') {
    running.get(message.id)?.abort();
  } else {
    void close();
  }
});

// The parent is gone. Nothing that was begun may go on: the next process looks at what is there.
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
// Ctrl-C in a terminal or a stop by a service manager goes to the whole group, and the parent still has calls to finish.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});

async function connect(setup: (ToChild & { type: 'setup' })['setup']): Promise<Awaited<typeof libraries>> {
  // Imported here and not at the top, so that a machine without librbd gives an error and no crash.
  const [{ Cluster }, { operations }, { closeAllHandles }] = await Promise.all([
    import('./cluster.ts'),
    import('./operations.ts'),
    import('./handles.ts'),
  ]);
  const cluster = await Cluster.connect(setup);
  void send({ type: 'connected', address: cluster.address });
  return { cluster, operations, closeAllHandles };
}

async function call(id: number, name: string, args: unknown[]): Promise<void> {
  const controller = new AbortController();
  running.set(id, controller);
  try {
    const { cluster, operations } = await libraries;
    const context: Context = { cluster, signal: controller.signal, progress: progressOf(id) };
    const operation = operations[name as keyof Operations] as (
      context: Context,
      ...args: unknown[]
    ) => Promise<unknown>;
    void send({ type: 'answer', id, value: await operation(context, ...args) });
  } catch (error) {
    void send({ type: 'failure', id, ...failureOf(error, name) });
  } finally {
    running.delete(id);
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
