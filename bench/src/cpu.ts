import { readdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';

/** Milliseconds of processor time. */
export interface Cpu {
  /** M2's services, PostgreSQL and NATS. */
  controlPlane: number;
  /** What talks to the hardware, and would without M2: target daemons, the storage daemon, and programs that services start (ipmitool, dd). */
  drivers: number;
  /** The simulated BMCs. */
  simulator: number;
}

/** The processor time of an installation's processes up to now, and how long all processors were there and idle. */
export interface Moment extends Cpu {
  idle: number;
  all: number;
}

/** One tick of /proc/PID/stat and /proc/stat: USER_HZ is 100 on Linux wherever Node runs. */
const tickMs = 10;

/**
 * Reads what every process has used whose command line or environment names `directory`, or whose ancestor's does; but for those below a
 * directory that begins with `bare-`, which the benchmark itself runs, and for this process.
 */
export function cpuOf(directory: string): Moment {
  const now: Moment = { controlPlane: 0, drivers: 0, simulator: 0, ...machine() };
  const processes = new Map(
    readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .flatMap((name) => {
        const found = look(Number(name), directory);
        return found ? [[Number(name), found] as const] : [];
      }),
  );
  const isOurs = (pid: number): boolean => {
    const found = processes.get(pid);
    return found !== undefined && pid !== process.pid && (found.named || isOurs(found.parent));
  };
  for (const [pid, found] of processes) {
    if (found.bare || !isOurs(pid)) continue;
    now[found.group] += found.ownMs;
    // PostgreSQL's backends are its own; the children of all others are programs that drive something.
    now[found.group === 'controlPlane' && found.name !== 'postgres' ? 'drivers' : found.group] += found.childrenMs;
  }
  return now;
}

/** Per `count`, rounded to a tenth of a millisecond; and the share of the time in which a processor had nothing to do. */
export function between(before: Moment, after: Moment, count: number): { cpuMs: Cpu; idleShare: number } {
  const per = (key: keyof Cpu) => Math.round(((after[key] - before[key]) / count) * 10) / 10;
  return {
    cpuMs: { controlPlane: per('controlPlane'), drivers: per('drivers'), simulator: per('simulator') },
    idleShare: Math.round(((after.idle - before.idle) / (after.all - before.all)) * 100) / 100,
  };
}

interface Found {
  name: string;
  parent: number;
  named: boolean;
  bare: boolean;
  group: keyof Cpu;
  ownMs: number;
  /** Of children that ended and were waited for. */
  childrenMs: number;
}

function look(pid: number, directory: string): Found | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const name = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const command = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
    const about = `${command.join(' ')} ${readFileSync(`/proc/${pid}/environ`, 'latin1')}`;
    const program = basename(command[0]!) === 'node' ? command.join(' ') : name;
    return {
      name,
      parent: Number(fields[1]),
      named: about.includes(directory),
      bare: about.includes(`${directory}/bare-`),
      group: groupOf(program),
      ownMs: threads(pid),
      childrenMs: (Number(fields[13]) + Number(fields[14])) * tickMs,
    };
  } catch {
    return undefined; // it ended meanwhile
  }
}

function groupOf(program: string): keyof Cpu {
  if (/ipmi_sim|responder-process|lab\/dist/.test(program)) return 'simulator';
  return /^(tgtd|qemu-|ipmitool|stdbuf|dd$|dnsmasq)/.test(program) ? 'drivers' : 'controlPlane';
}

/** To the nanosecond, unlike /proc/PID/stat. A thread that ended is not counted; those of our programs live as long as they do. */
function threads(pid: number): number {
  let nanoseconds = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`))
    nanoseconds += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'latin1').split(' ')[0]);
  return nanoseconds / 1e6;
}

function machine(): { idle: number; all: number } {
  const [, ...times] = readFileSync('/proc/stat', 'latin1').split('\n')[0]!.split(/ +/).map(Number);
  // user, nice, system, idle, iowait, irq, softirq, steal; the guest's are in the user's.
  return { idle: times[3]! + times[4]!, all: times.slice(0, 8).reduce((sum, time) => sum + time, 0) };
}
