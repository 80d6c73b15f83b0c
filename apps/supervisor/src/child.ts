import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { SupervisorError } from './errors.js';
import { lastLines, logFile, rotateLog } from './logs.js';
import { endProcess, processRef, type ProcessRef } from './processes.js';
import type { Paths } from './state.js';

/**
 * What a part says of itself. `waiting`: it answers, and waits for something. `absent`: nobody listens, as while it starts. `silent`: somebody
 * listens and says nothing.
 */
export type Health = { is: 'ready'; alarms?: string[] } | { is: 'waiting' | 'absent' | 'silent'; for: string };

export interface ChildSpec {
  name: string;
  command: string;
  /** The Debian package that brings the command. */
  package: string;
  args: string[];
  env: Record<string, string>;
  /** The user to run as, where it is not ours. */
  user?: { uid: number; gid: number } | undefined;
  /** The port that people look for. */
  port?: number;
  /** Whether it does its work. Called again and again, as long as it lives; must not throw, nor take longer than some seconds. */
  health: (pid: number) => Promise<Health>;
  stopSignal: NodeJS.Signals;
  /** How long it may take to end what is under way, when it is ready and while it starts; SIGKILL after that. */
  stopDeadlineMs: { ready: number; starting: number };
}

export interface ChildStatus {
  name: string;
  /** `unready`: it was ready, and waits for something, or does not answer. */
  state: 'starting' | 'ready' | 'unready' | 'restarting' | 'failed' | 'stopped';
  /** What it waits for, while it is not ready. */
  waitsFor: string | null;
  /** What a person has to know of, though it does its work. */
  alarms: string[];
  pid: number | null;
  restarts: number;
  /** When it was started last, ISO 8601. */
  since: string | null;
  port: number | null;
}

const firstBackoffMs = 100;
const maxBackoffMs = 5_000;
/** A process that lived this long had nothing wrong with its start. */
const healthyMs = 30_000;
/** A service that was never ready and ended this often will not become ready by itself. */
const maxFailedStarts = 5;
/** sysexits.h: the configuration is wrong, and so it will be the next time. */
const exConfig = 78;
const pollMs = 25;
/** How often a part that was ready is asked. */
const watchMs = 5_000;
/** What says nothing for this long hangs. Longer than any lease, so that what comes back by itself is not ended in vain. */
const hungMs = 30_000;
/** While it starts it may have a lot to do before it answers. */
const hungStartMs = 90_000;
/** A part that hangs again and again is ended after longer and longer silences: a restart does not seem to help. */
const longestHungMs = 600_000;
const hungDeadlineMs = 5_000;

/** For tests, which end parts and make them hang more often than any fault does. */
export interface Pace {
  longestBackoffMs?: number | undefined;
  hungMs?: number | undefined;
}

/** One process that is kept running: started again when it ends, until it is stopped or cannot work at all. */
export class Child {
  private process: ChildProcess | undefined;
  private ref: ProcessRef | undefined;
  private state: ChildStatus['state'] = 'starting';
  private failures = 0;
  private restarts = 0;
  private since: Date | undefined;
  private startedAt = 0;
  private timer: NodeJS.Timeout | undefined;
  private waitsFor = 'its start';
  private stopping = false;
  private alarms: string[] = [];
  /** Since when it has not answered. */
  private silentSince: number | undefined;
  private readySince: number | undefined;
  /** How often in a row it was ended because it did not answer. */
  private hangs = 0;
  private readonly firstReady = Promise.withResolvers<void>();
  private exited: Promise<void> = Promise.resolve();

  constructor(
    readonly spec: ChildSpec,
    private readonly paths: Paths,
    private readonly report: (line: string) => void,
    private readonly pace: Pace = {},
  ) {
    // Nobody may be waiting yet when the child is stopped: an unhandled rejection would end the process.
    this.firstReady.promise.catch(() => {});
    rotateLog(paths, spec.name);
  }

  /** Starts it; resolves when it is ready for the first time. Throws `supervisor.child_failed` or `.program_missing`. */
  start(): Promise<void> {
    this.run();
    return this.firstReady.promise;
  }

  status(): ChildStatus {
    return {
      name: this.spec.name,
      state: this.state,
      pid: this.ref?.pid ?? null,
      restarts: this.restarts,
      since: this.since?.toISOString() ?? null,
      port: this.spec.port ?? null,
      waitsFor: this.state === 'ready' || this.state === 'stopped' ? null : this.waitsFor,
      alarms: this.state === 'ready' ? this.alarms : [],
    };
  }

  /** For a report: what it is doing instead of being ready, with the end of its log. */
  whyNotReady(): string {
    const log = lastLines(this.paths, this.spec.name, 8).map((line) => `    ${line}`);
    return [`${this.spec.name} is ${this.state}, waits for ${this.waitsFor}`, ...log].join('\n');
  }

  /** Stops it for good; resolves when the process is gone. */
  async stop(): Promise<void> {
    this.stopping = true;
    clearTimeout(this.timer);
    const { stopSignal, stopDeadlineMs } = this.spec;
    const wasReady = this.state === 'ready' || this.state === 'unready';
    const deadlineMs = wasReady ? stopDeadlineMs.ready : stopDeadlineMs.starting;
    if (this.ref) await endProcess(this.ref, stopSignal, deadlineMs);
    await this.exited;
    this.state = this.state === 'failed' ? 'failed' : 'stopped';
    this.firstReady.reject(
      new SupervisorError('supervisor.stopped', 'M2 was stopped while it started', 'Start it again.'),
    );
  }

  private run(): void {
    const log = openSync(logFile(this.paths, this.spec.name), 'a', 0o600);
    const child = spawn(this.spec.command, this.spec.args, {
      // A session of its own: Ctrl-C would otherwise reach every child at once and end them in no order.
      detached: true,
      cwd: '/',
      env: this.spec.env,
      stdio: ['ignore', log, log],
      ...this.spec.user,
    });
    closeSync(log);
    const exited = Promise.withResolvers<void>();
    this.exited = exited.promise;
    this.process = child;
    this.since = new Date();
    this.startedAt = performance.now();
    this.ref = child.pid === undefined ? undefined : processRef(child.pid);
    child.once('error', (error: NodeJS.ErrnoException) => {
      exited.resolve();
      if (child.pid === undefined) this.fail(cannotStart(this.spec, error));
    });
    child.once('exit', (code, signal) => {
      exited.resolve();
      this.ended(code, signal);
    });
    if (this.ref) void this.watch(child);
  }

  /** Asks it how it is, as long as it lives, and ends it when it hangs. */
  private async watch(child: ChildProcess): Promise<void> {
    this.silentSince = undefined;
    this.readySince = undefined;
    for (;;) {
      const health = await this.spec.health(child.pid as number);
      if (this.process !== child || this.stopping) return;
      this.note(health);
      const silentMs = this.silentSince === undefined ? 0 : performance.now() - this.silentSince;
      if (silentMs > this.patienceMs) return this.endHung(silentMs);
      const isUp = this.state === 'ready' || this.state === 'unready';
      // It keeps nobody from ending: the process that it looks at does.
      await pause(isUp ? Math.min(watchMs, this.patienceMs / 4) : pollMs, undefined, { ref: false });
      if (this.process !== child || this.stopping) return;
    }
  }

  private note(health: Health): void {
    if (health.is === 'ready') {
      if (this.state === 'unready') this.report(`${this.spec.name} is ready again`);
      this.state = 'ready';
      this.alarms = health.alarms ?? [];
      this.silentSince = undefined;
      this.readySince ??= performance.now();
      if (performance.now() - this.readySince > longestHungMs) this.hangs = 0;
      return this.firstReady.resolve();
    }
    const wasReady = this.readySince !== undefined;
    const isSilent = health.is === 'silent' || (health.is === 'absent' && wasReady);
    if (isSilent) this.silentSince ??= performance.now();
    else this.silentSince = undefined;
    this.waitsFor = health.for;
    if (this.state === 'ready') {
      this.state = 'unready';
      this.report(`${this.spec.name} is not ready any more: it waits for ${health.for}`);
    }
  }

  private get patienceMs(): number {
    const firstMs = this.readySince === undefined ? hungStartMs : (this.pace.hungMs ?? hungMs);
    return Math.min(longestHungMs, firstMs * 2 ** this.hangs);
  }

  private async endHung(silentMs: number): Promise<void> {
    this.hangs++;
    this.report(
      `${this.spec.name} hangs: it did not answer for ${Math.round(silentMs / 1_000)} s (${this.waitsFor}); it is ended and started again`,
    );
    // What is ended by a signal that it cannot take is killed.
    await endProcess(this.ref as ProcessRef, this.spec.stopSignal, hungDeadlineMs).catch((error: unknown) =>
      this.report(String(error)),
    );
  }

  private ended(code: number | null, signal: NodeJS.Signals | null): void {
    const livedMs = performance.now() - this.startedAt;
    const wasReady = this.state === 'ready' || this.state === 'unready';
    this.process = undefined;
    this.ref = undefined;
    if (this.stopping) return;
    this.failures = livedMs >= healthyMs ? 1 : this.failures + 1;
    const how = signal ? `was killed by ${signal}` : `ended with code ${code}`;
    this.waitsFor = `a new start (it ${how})`;
    const neverReady = !wasReady && this.restarts + 1 >= maxFailedStarts && this.state === 'starting';
    if (code === exConfig || neverReady) return this.fail(this.failure(how));
    const backoff = Math.min(this.pace.longestBackoffMs ?? maxBackoffMs, firstBackoffMs * 2 ** (this.failures - 1));
    this.report(`${this.spec.name} ${how}; it is started again in ${backoff} ms`);
    if (wasReady) this.state = 'restarting';
    this.restarts++;
    this.timer = setTimeout(() => this.run(), backoff);
  }

  private fail(error: SupervisorError): void {
    this.process = undefined;
    this.state = 'failed';
    this.report(`${error.message}\n${error.remedy}`);
    this.firstReady.reject(error);
  }

  private failure(how: string): SupervisorError {
    const { name } = this.spec;
    const log = lastLines(this.paths, name, 20).map((line) => `\n    ${line}`);
    return new SupervisorError(
      'supervisor.child_failed',
      `${name} ${how} and cannot start; the end of its log:${log.join('')}`,
      `Correct what it says; all of it is in ${logFile(this.paths, name)}.`,
    );
  }
}

const cannotStart = ({ name, command, package: debian }: ChildSpec, error: NodeJS.ErrnoException) =>
  new SupervisorError(
    'supervisor.program_missing',
    `${name} cannot be started: ${command}: ${error.code ?? error.message}`,
    `Install the Debian package ${debian}.`,
    { cause: error },
  );
