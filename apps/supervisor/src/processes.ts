import { readdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { SupervisorError } from './errors.js';

/** A process, told apart from a later one with the same number by the time it started (proc(5), field 22 of /proc/PID/stat). */
export interface ProcessRef {
  pid: number;
  startTime: string;
}

export interface FoundProcess extends ProcessRef {
  /** The file name of argv[0]. */
  program: string;
}

/** The variable that marks the services, and whatever they start, as belonging to one state directory. */
export const markVariable = 'M2_SUPERVISED';

/** What keeps the disks of booted nodes: it outlives its service, and only `down` ends it. */
export const storagePrograms = new Set(['tgtd', 'qemu-storage-daemon']);
/** What has the state directory in its arguments or environment because it serves it; an editor with a file of it open does not. */
const serverPrograms = new Set([...storagePrograms, 'nats-server', 'postgres', 'dnsmasq']);

/** Undefined when there is no such process, or only the zombie of it. */
export function processRef(pid: number): ProcessRef | undefined {
  const stat = readProc(pid, 'stat');
  if (stat === undefined) return undefined;
  // The second field is the program's name in parentheses. It may hold anything, so the last parenthesis ends it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : { pid, startTime: fields[19] as string };
}

export const isAlive = ({ pid, startTime }: ProcessRef): boolean => processRef(pid)?.startTime === startTime;

/**
 * Every process that belongs to a state directory, whoever started it. It is found by its arguments and its environment, so that no file
 * has to be right, not even after a crash.
 */
export function processesOf(state: string): FoundProcess[] {
  const mark = `${markVariable}=${state}`;
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((name) => {
      const pid = Number(name);
      const ref = processRef(pid);
      const args = readProc(pid, 'cmdline')?.split('\0') ?? [];
      const environment = readProc(pid, 'environ')?.split('\0') ?? [];
      const program = basename(args[0] ?? '');
      const serves =
        serverPrograms.has(program) && [...args, ...environment].some((value) => names(value, `${state}/`));
      return ref && (serves || environment.includes(mark)) ? [{ ...ref, program }] : [];
    });
}

/** Whether a path that starts with `prefix` stands in `value`, by itself or as in `file=PATH,…`. */
function names(value: string, prefix: string): boolean {
  const at = value.indexOf(prefix);
  return at === 0 || (at > 0 && '=,:" '.includes(value[at - 1] as string));
}

/**
 * Ends a process: sends the signal, and SIGKILL after the deadline. Resolves when it is gone.
 * Throws `supervisor.stuck` when not even SIGKILL ends it: then it hangs in the kernel, on a disk that does not answer.
 */
export async function endProcess(target: ProcessRef, signal: NodeJS.Signals, deadlineMs: number): Promise<void> {
  send(target, signal);
  if (await isGone(target, deadlineMs)) return;
  send(target, 'SIGKILL');
  if (await isGone(target, 10_000)) return;
  throw new SupervisorError(
    'supervisor.stuck',
    `Process ${target.pid} does not die: what it reads or writes does not answer`,
    'Repair or detach that storage, then run m2 down again.',
  );
}

function send(target: ProcessRef, signal: NodeJS.Signals): void {
  if (!isAlive(target)) return;
  try {
    process.kill(target.pid, signal);
  } catch (error) {
    // It ended before the signal came.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

async function isGone(target: ProcessRef, deadlineMs: number): Promise<boolean> {
  for (const until = performance.now() + deadlineMs; isAlive(target); await pause(10))
    if (performance.now() > until) return false;
  return true;
}

/** Undefined when the process is gone, or is somebody else's and its secrets are not ours to read. */
function readProc(pid: number, file: 'stat' | 'cmdline' | 'environ'): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return undefined;
  }
}
