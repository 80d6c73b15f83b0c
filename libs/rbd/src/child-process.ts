import { fork, type ChildProcess as Process } from 'node:child_process';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { FromChild, ToChild } from './protocol.ts';

/** The program beside this file, compiled or not like this file. Node runs both. */
const program = fileURLToPath(new URL(`./child/main${extname(import.meta.url)}`, import.meta.url));

/** Each call to the cluster waits on its own thread. */
const threads = '32';

export interface ChildEvents {
  onMessage(message: FromChild): void;
  /** Called once, when the process has ended; `reason` says how, with its last output. */
  onExit(reason: string): void;
}

/** Starts the child. It gets none of this process's environment, which may have secrets. */
export function startChild(events: ChildEvents): { send(message: ToChild): void; process: Process } {
  const { PATH, LD_LIBRARY_PATH } = process.env;
  const child = fork(program, [], {
    execArgv: [],
    env: {
      ...(PATH !== undefined && { PATH }),
      ...(LD_LIBRARY_PATH !== undefined && { LD_LIBRARY_PATH }),
      UV_THREADPOOL_SIZE: threads,
    },
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  const last = lastWords(child);
  child.on('message', (message) => events.onMessage(message as FromChild));
  let ended = false;
  const end = (reason: string) => {
    if (ended) return;
    ended = true;
    events.onExit(reason);
  };
  child.on('error', (error) => {
    // It could not be started. When only a message did not reach it, its end is reported separately.
    if (child.pid === undefined) end(`did not start: ${error.message}`);
  });
  // `close` and not `exit`: after it nothing more comes from the process, neither messages nor output.
  child.on('close', (code, signal) => end(`${signal ? `killed by ${signal}` : `exited with ${code}`}${last()}`));
  // The callback keeps a message to a process that has just ended from becoming an `error` event.
  const send = (message: ToChild) => void child.send(message, () => {});
  return { send, process: child };
}

const maxWords = 4096;

/** What the child wrote to standard error: the assertion at which librbd aborted, or the last lines. */
function lastWords(child: Process): () => string {
  let assertion: string | undefined;
  let tail = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    tail = (tail + text).slice(-maxWords);
    assertion ??= /^.*(?:FAILED ceph_assert|ceph_abort).*$/m.exec(tail)?.[0];
  });
  return () => {
    const words = assertion ?? tail.trim().split('\n').at(-1)?.trim();
    return words ? ` (${words.slice(0, 300)})` : '';
  };
}
