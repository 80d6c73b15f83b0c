import { readdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { round } from './numbers.js';

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
  /** The same of each program: a service by its folder, and what a program started with it. */
  programs: Record<string, number>;
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
  const now: Moment = { controlPlane: 0, drivers: 0, simulator: 0, programs: {}, ...machine() };
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
    // PostgreSQL's backends are its own; the children of all others are programs that drive something.
    const children = found.group === 'controlPlane' && found.name !== 'postgres' ? 'drivers' : found.group;
    now[found.group] += found.ownMs;
    now[children] += found.childrenMs;
    add(now.programs, found.name, found.ownMs);
    add(now.programs, children === found.group ? found.name : `${found.name}'s programs`, found.childrenMs);
  }
  return now;
}

/** What was used between two moments. */
export interface Used {
  cpuMs: Cpu;
  programs: Record<string, number>;
  idleShare: number;
}

/** Per `count`, rounded to a tenth of a millisecond; and the share of the time in which a processor had nothing to do. */
export function between(before: Moment, after: Moment, count: number): Used {
  const per = (key: keyof Cpu) => round((after[key] - before[key]) / count);
  const programs = Object.entries(after.programs).map(([name, ms]): [string, number] => [
    name,
    round((ms - (before.programs[name] ?? 0)) / count),
  ]);
  return {
    cpuMs: { controlPlane: per('controlPlane'), drivers: per('drivers'), simulator: per('simulator') },
    programs: Object.fromEntries(programs.filter(([, ms]) => ms > 0).toSorted(([, a], [, b]) => b - a)),
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
    const isNode = basename(command[0]!) === 'node';
    const program = isNode ? command.join(' ') : name;
    return {
      name: isNode ? (/([^/ ]+)\/dist\//.exec(program)?.[1] ?? 'node') : name,
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

function add(sums: Record<string, number>, name: string, ms: number): void {
  sums[name] = (sums[name] ?? 0) + ms;
}
