import { readFileSync } from 'node:fs';

const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();

/** A process, distinguished from a later one with the same number. */
export interface ProcessIdentity {
  pid: number;
  /** The machine's boot, and the process's start time: field 22 of /proc/PID/stat, see proc(5). */
  identity: string;
}

/**
 * The process that has this number now; undefined when there is none. Without it, a reused number would be taken for a process of ours, and
 * killed.
 */
export function identify(pid: number): ProcessIdentity | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field is the program's name in parentheses and may contain anything; the last parenthesis ends it.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const [state, threads, startTime] = [fields[0], Number(fields[17]), fields[19]];
    // A zombie whose other threads still run has its files open, and their locks.
    if ((state === 'Z' && threads <= 1) || state === 'X') return undefined;
    return { pid, identity: `${bootId}/${startTime}` };
  } catch {
    return undefined;
  }
}

export function isAlive({ pid, identity }: ProcessIdentity): boolean {
  return identify(pid)?.identity === identity;
}

/** Sends SIGKILL to the process if it is still the same one. */
export function killVerified(who: ProcessIdentity): void {
  if (!isAlive(who)) return;
  try {
    process.kill(who.pid, 'SIGKILL');
  } catch (error) {
    // It ended between the look and the signal.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
