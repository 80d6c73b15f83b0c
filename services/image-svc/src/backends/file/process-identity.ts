import { readFile } from 'node:fs/promises';

/** A process, told apart from a later one with the same number. */
export interface ProcessIdentity {
  pid: number;
  /** Clock ticks from the machine's boot to its start: field 22 of /proc/<pid>/stat, see proc(5). */
  startTime: string;
  bootId: string;
}

/** Who has this number now; undefined when nobody lives there. */
export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  try {
    const [stat, bootId] = await Promise.all([
      readFile(`/proc/${pid}/stat`, 'utf8'),
      readFile('/proc/sys/kernel/random/boot_id', 'utf8'),
    ]);
    // The command's name, in parentheses, may hold spaces and parentheses itself: count from its end.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const [state, threads, startTime] = [fields[0], Number(fields[17]), fields[19]];
    // A zombie whose other threads still run has its files open, and their locks.
    if (startTime === undefined || (state === 'Z' && threads <= 1) || state === 'X') return undefined;
    return { pid, startTime, bootId: bootId.trim() };
  } catch {
    return undefined;
  }
}

export async function isAlive(who: ProcessIdentity): Promise<boolean> {
  const now = await identify(who.pid);
  return now !== undefined && now.startTime === who.startTime && now.bootId === who.bootId;
}
