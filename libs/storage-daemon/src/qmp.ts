import { EventEmitter, once } from 'node:events';
import { createConnection } from 'node:net';
import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { StorageDaemonError, withDeadline } from './errors.js';

interface Message {
  QMP?: unknown;
  id?: number;
  return?: unknown;
  error?: { class: string; desc: string };
  event?: string;
  data?: { id?: string };
}

interface Pending {
  resolve: (value: unknown) => void;
  reject: (error: Error) => void;
}

/**
 * A client of the QEMU Machine Protocol (QEMU, docs/interop/qmp-spec): one JSON object per line over a UNIX socket.
 * The server talks to one client at a time; a second connection waits without a greeting.
 */
export class Qmp {
  private readonly pending = new Map<number, Pending>();
  private readonly events = new EventEmitter();
  private nextId = 1;
  /** Resolves when the connection has ended, from either side. */
  readonly closed: Promise<void>;

  private constructor(private readonly socket: Socket) {
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
    this.events.setMaxListeners(0); // one per export that is being removed
    socket.on('error', () => {}); // `close` follows, and tells everybody who waits
    void this.closed.then(() => {
      const gone = new StorageDaemonError(
        'daemon.unavailable',
        'The connection to the storage daemon ended. Retry: it is started again.',
      );
      for (const { reject } of this.pending.values()) reject(gone);
      this.pending.clear();
    });
    createInterface({ input: socket })
      .on('error', () => {}) // readline passes the socket's errors on
      .on('line', (line) => this.receive(line));
  }

  /** Rejects with the system's error when nobody listens, and with `daemon.timeout` when nobody answers. */
  static async connect(path: string, deadlineMs: number): Promise<Qmp> {
    const socket = createConnection({ path });
    const connected = once(socket, 'connect');
    await connected;
    const qmp = new Qmp(socket);
    try {
      const greeting = once(qmp.events, 'greeting');
      const gone = qmp.closed.then(() =>
        Promise.reject(new StorageDaemonError('daemon.unavailable', 'The storage daemon closed the connection.')),
      );
      await withDeadline(Promise.race([greeting, gone]), deadlineMs, 'greet the storage daemon');
      await qmp.execute('qmp_capabilities', {}, deadlineMs);
      return qmp;
    } catch (error) {
      qmp.close();
      throw error;
    }
  }

  /** Runs one command. Errors: `daemon.unavailable` with the daemon's own message, `daemon.timeout`. */
  async execute(command: string, args: object = {}, deadlineMs = 10_000): Promise<unknown> {
    const id = this.nextId++;
    const reply = new Promise<unknown>((resolve, reject) => this.pending.set(id, { resolve, reject }));
    if (this.socket.destroyed) {
      this.pending.delete(id);
      throw new StorageDaemonError(
        'daemon.unavailable',
        'The storage daemon is not connected. Retry: it is started again.',
      );
    }
    this.socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    try {
      return await withDeadline(reply, deadlineMs, `run ${command} in the storage daemon`);
    } finally {
      this.pending.delete(id);
    }
  }

  /** Listens at once; resolves when the event about `id` arrives. Call it before the command that causes the event. */
  async event(name: string, id: string, deadlineMs = 10_000): Promise<void> {
    const done = new AbortController();
    const seen = once(this.events, `${name} ${id}`, { signal: done.signal });
    try {
      await withDeadline(Promise.race([seen, this.closed]), deadlineMs, `see ${name} from the storage daemon`);
    } finally {
      done.abort();
    }
  }

  close(): void {
    this.socket.destroy();
  }

  private receive(line: string): void {
    let message: Message;
    try {
      message = JSON.parse(line) as Message;
    } catch {
      this.close(); // the rest of a line that a dying daemon did not finish
      return;
    }
    if (message.QMP) this.events.emit('greeting');
    if (message.event) this.events.emit(`${message.event} ${message.data?.id}`);
    const waiting = message.id === undefined ? undefined : this.pending.get(message.id);
    if (!waiting) return;
    if (message.error) {
      waiting.reject(
        new StorageDaemonError('daemon.unavailable', `The storage daemon refused: ${message.error.desc}.`),
      );
    } else {
      waiting.resolve(message.return);
    }
  }
}
