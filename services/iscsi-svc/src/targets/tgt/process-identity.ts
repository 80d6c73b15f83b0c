import { readFileSync } from 'node:fs';

const BOOT_ID = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();

/**
 * What makes a process number ours and nobody else's: the boot of the machine and the time the process started (proc(5),
 * field 22 of /proc/PID/stat). Without it, a number that was given out again would be taken for our tgtd, and killed.
 * Undefined when there is no such process, or only the zombie of it.
 */
export function processIdentity(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field is the program's name in parentheses and may hold anything; the last parenthesis ends it.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const [state, startTime] = [fields[0], fields[19]];
    if (state === 'Z' || state === 'X') return undefined;
    return `${BOOT_ID}/${startTime}`;
  } catch {
    return undefined;
  }
}

/** SIGKILLs the process if it is still the one that was meant. */
export function killVerified(pid: number, identity: string): void {
  if (processIdentity(pid) !== identity) return;
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    // It ended between the look and the signal.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
