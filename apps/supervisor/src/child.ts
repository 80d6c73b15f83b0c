import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { SupervisorError } from './errors.js';
import { lastLines, logFile, rotateLog } from './logs.js';
import { endProcess, processRef, type ProcessRef } from './processes.js';
import type { Paths } from './state.js';

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
  /** True when it does its work; else what it waits for, in a few words. Called again and again; must not throw. */
  ready: (pid: number) => Promise<true | string>;
  stopSignal: NodeJS.Signals;
  /** How long it may take to end what is under way, when it is ready and while it starts; SIGKILL after that. */
  stopDeadlineMs: { ready: number; starting: number };
}

export interface ChildStatus {
  name: string;
  state: 'starting' | 'ready' | 'restarting' | 'failed' | 'stopped';
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

/** One process that is kept running: started again when it ends, until it is stopped or cannot work at all. */
export class Child {
  private process: ChildProcess | undefined;
  private ref: ProcessRef | undefined;
  private state: ChildStatus['state'] = 'starting';
  private failures = 0;
  private restarts = 0;
  private since: Date | undefined;
  private timer: NodeJS.Timeout | undefined;
  private waitsFor = 'its start';
  private stopping = false;
  private readonly firstReady = Promise.withResolvers<void>();
  private exited: Promise<void> = Promise.resolve();

  constructor(
    readonly spec: ChildSpec,
    private readonly paths: Paths,
    private readonly report: (line: string) => void,
    private readonly longestBackoffMs = maxBackoffMs,
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
    const deadlineMs = this.state === 'ready' ? stopDeadlineMs.ready : stopDeadlineMs.starting;
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
    this.ref = child.pid === undefined ? undefined : processRef(child.pid);
    child.once('error', (error: NodeJS.ErrnoException) => {
      exited.resolve();
      if (child.pid === undefined) this.fail(cannotStart(this.spec, error));
    });
    child.once('exit', (code, signal) => {
      exited.resolve();
      this.ended(code, signal);
    });
    if (this.ref) void this.untilReady(child);
  }

  private async untilReady(child: ChildProcess): Promise<void> {
    while (this.process === child && !this.stopping) {
      const answer = await this.spec.ready(child.pid as number);
      if (this.process !== child || this.stopping) return;
      if (answer === true) {
        this.state = 'ready';
        return this.firstReady.resolve();
      }
      this.waitsFor = answer;
      await pause(pollMs);
    }
  }

  private ended(code: number | null, signal: NodeJS.Signals | null): void {
    const livedMs = Date.now() - (this.since?.getTime() ?? 0);
    const wasReady = this.state === 'ready';
    this.process = undefined;
    this.ref = undefined;
    if (this.stopping) return;
    this.failures = livedMs >= healthyMs ? 1 : this.failures + 1;
    const how = signal ? `was killed by ${signal}` : `ended with code ${code}`;
    this.waitsFor = `a new start (it ${how})`;
    const neverReady = !wasReady && this.restarts + 1 >= maxFailedStarts && this.state === 'starting';
    if (code === exConfig || neverReady) return this.fail(this.failure(how));
    const backoff = Math.min(this.longestBackoffMs, firstBackoffMs * 2 ** (this.failures - 1));
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
