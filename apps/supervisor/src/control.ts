import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import type { ChildStatus } from './child.js';
import { AlreadyRunningError, SupervisorError } from './errors.js';
import type { Settings } from './options.js';
import type { Paths } from './state.js';

/** What a supervisor says of itself and its children. */
export interface Status {
  phase: 'starting' | 'ready' | 'stopping';
  pid: number;
  since: string;
  /** Null until they were read. */
  settings: Settings | null;
  children: ChildStatus[];
}

type Request = { command: 'status' | 'stop' };

const answerDeadlineMs = 5_000;

const gateMs = 2_000;

/**
 * Marks the one supervisor of a state directory. It listens on a UNIX socket for JSON lines: it answers `{"command":"status"}` with a Status,
 * and `{"command":"stop"}` by ending. The connection closes when the process is gone.
 */
export class Control {
  private readonly open = new Set<Socket>();

  private constructor(
    private readonly server: Server,
    private readonly gate: Server,
    private readonly handlers: { status: () => Status; stop: () => void },
  ) {
    server.on('connection', (socket) => this.serve(socket));
  }

  /**
   * Takes the state directory. An abstract socket, the gate, decides between two supervisors that start at the same time: only one process
   * can hold it, and it disappears with that process. The socket file cannot decide: it stays behind after a crash, and another process
   * may come between the check whether somebody answers and its replacement.
   * Throws AlreadyRunningError.
   */
  static async take(paths: Paths, handlers: { status: () => Status; stop: () => void }): Promise<Control> {
    const gate = createServer();
    const name = createHash('sha256').update(paths.state).digest('hex').slice(0, 32);
    const until = performance.now() + gateMs;
    while (!(await listen(gate, `\0m2-${name}`))) {
      // A killed supervisor holds the gate until the kernel has removed it; a living one answers.
      if (performance.now() > until || (await askStatus(paths))) throw new AlreadyRunningError(paths.state);
      await pause(20);
    }
    try {
      // Abstract sockets belong to a network namespace; a supervisor in another one answers here.
      if (await askStatus(paths)) throw new AlreadyRunningError(paths.state);
      rmSync(paths.control, { force: true });
      const server = createServer();
      const control = new Control(server, gate, handlers);
      if (!(await listen(server, paths.control))) throw new AlreadyRunningError(paths.state);
      chmodSync(paths.control, 0o600);
      return control;
    } catch (error) {
      gate.close();
      throw error;
    }
  }

  close(): void {
    for (const socket of this.open) socket.destroy();
    this.server.close();
    this.gate.close();
  }

  private serve(socket: Socket): void {
    this.open.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => this.open.delete(socket));
    onLines(socket, (line) => {
      const command = parse(line)?.command;
      if (command === 'status') socket.write(`${JSON.stringify(this.handlers.status())}\n`);
      else if (command === 'stop') this.handlers.stop();
      else socket.destroy();
    });
  }
}

/** Undefined when no supervisor lives. Throws `supervisor.stuck` when one lives and does not answer. */
export async function askStatus(paths: Paths): Promise<Status | undefined> {
  const socket = await dial(paths);
  if (!socket) return undefined;
  const answer = Promise.withResolvers<string | undefined>();
  onLines(socket, answer.resolve);
  // It ended while it was asked.
  socket.once('close', () => answer.resolve(undefined));
  socket.setTimeout(answerDeadlineMs, () =>
    answer.reject(
      new SupervisorError(
        'supervisor.stuck',
        `The supervisor of ${paths.state} does not answer`,
        'Look for its process with ps, end it, then run m2 down.',
      ),
    ),
  );
  socket.write(`${JSON.stringify({ command: 'status' } satisfies Request)}\n`);
  try {
    const line = await answer.promise;
    return line === undefined ? undefined : (JSON.parse(line) as Status);
  } finally {
    socket.destroy();
  }
}

/** Asks the supervisor to stop everything, and resolves when it is gone; false when there is none. Throws `supervisor.stuck`. */
export async function askStop(paths: Paths, deadlineMs: number): Promise<boolean> {
  const socket = await dial(paths);
  if (!socket) return false;
  const closed = once(socket, 'close').then(() => true);
  socket.write(`${JSON.stringify({ command: 'stop' } satisfies Request)}\n`);
  // The answer does not matter, but unread data would hide the end of the connection.
  socket.resume();
  const inTime = await Promise.race([closed, pause(deadlineMs, false, { ref: false })]);
  socket.destroy();
  if (!inTime)
    throw new SupervisorError(
      'supervisor.stuck',
      `The supervisor of ${paths.state} did not stop everything within ${deadlineMs / 1000} s`,
      'See m2 status for what still runs; kill the supervisor, then run m2 down again.',
    );
  return true;
}

async function dial(paths: Paths): Promise<Socket | undefined> {
  const socket = connect(paths.control);
  try {
    await once(socket, 'connect');
    socket.on('error', () => {});
    return socket;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // There is no file, or a killed supervisor left it behind.
    if (code === 'ENOENT' || code === 'ECONNREFUSED') return undefined;
    throw new SupervisorError(
      'supervisor.state_unusable',
      `${paths.control} cannot be reached: ${(error as Error).message}`,
      'Run this as the user who started M2.',
      { cause: error },
    );
  }
}

/** Calls back with each line. (node:readline would turn a lost connection into an error that nobody can catch.) */
function onLines(socket: Socket, take: (line: string) => void): void {
  let rest = '';
  socket.setEncoding('utf8').on('data', (part: string) => {
    const lines = (rest + part).split('\n');
    rest = lines.pop() as string;
    for (const line of lines) take(line);
  });
}

/** False when somebody else listens there. */
async function listen(server: Server, path: string): Promise<boolean> {
  server.listen(path);
  try {
    await once(server, 'listening');
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return false;
    throw error;
  }
}

function parse(line: string): Partial<Request> | undefined {
  try {
    return JSON.parse(line) as Partial<Request>;
  } catch {
    return undefined;
  }
}
