import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { closeSync, openSync, writeSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { PowerError, type BmcAddress } from '../power.port.js';
import { ipmitoolCommand, ipmitoolEnvironment } from './ipmi-arguments.js';
import { sessionFailure, type IpmiCommand } from './ipmi-output.js';

/** The BMC does not know the cipher suite: another one may work. */
export class SuiteRefused extends Error {}

/** How much of ipmitool's error output is kept: the newest part, enough for any message. */
const KEPT = 4096;

/**
 * One ipmitool process with one session at a BMC, which gets one command line at a time. So commands that belong together cost one login,
 * and a refused command stops us before the next one is sent.
 */
export class IpmiSession {
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;
  readonly #fifo: number;
  readonly #where: string;
  readonly #ended: Promise<void>;
  #complaints = '';
  #line = '';
  #exit: PowerError | SuiteRefused | undefined;
  #listen: { line(line: string): void; complaint(): void; end(why: Error): void } | undefined;

  /** Nothing is sent before the first `ask`. When `signal` aborts (its reason is a `PowerError`), the process is killed. */
  constructor(
    bmc: BmcAddress,
    suite: number,
    tries: number,
    { home, fifo }: { home: string; fifo: string },
    signal: AbortSignal,
  ) {
    const { file, args } = ipmitoolCommand(bmc, suite, tries, fifo);
    // Opened for reading, too, so that opening does not wait for ipmitool. When we die, the kernel closes it and ipmitool ends.
    this.#fifo = openSync(fifo, 'r+');
    this.#where = `${bmc.address} port ${bmc.port}`;
    this.#child = spawn(file, args, { env: ipmitoolEnvironment(bmc, home), stdio: ['ignore', 'pipe', 'pipe'] });
    const { stdout, stderr } = this.#child;
    const kill = () => this.#child.kill('SIGKILL');
    signal.addEventListener('abort', kill, { once: true });
    if (signal.aborted) kill();
    this.#ended = new Promise((resolve) => {
      const end = (spawned: boolean) => {
        signal.removeEventListener('abort', kill);
        this.#exit ??= signal.aborted ? (signal.reason as PowerError) : this.#whyEnded(spawned);
        this.#listen?.end(this.#exit);
        resolve();
      };
      this.#child.on('error', () => end(false)).on('close', () => end(true));
    });
    stdout.setEncoding('utf8').on('data', (text: string) => this.#hear(text));
    stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#complaints = (this.#complaints + text).slice(-KEPT);
      this.#listen?.complaint();
    });
  }

  /** Sends one command and waits for its answer; the first one opens the session. */
  ask<Answer>(command: IpmiCommand<Answer>): Promise<Answer> {
    return new Promise<Answer>((resolve, reject) => {
      if (this.#exit) {
        reject(this.#exit);
        return;
      }
      const done = (settle: () => void) => {
        this.#listen = undefined;
        settle();
      };
      this.#listen = {
        line: (line) => {
          const answer = command.answer(line);
          done(() =>
            answer === undefined
              ? reject(this.#wrong(command, `"${command.line}" gave "${line}"`, line))
              : resolve(answer),
          );
        },
        complaint: () => {
          const refused = command.refused.exec(this.#complaints)?.[0];
          const { moot } = command;
          if (refused && moot?.refusal.test(refused)) done(() => resolve(moot.answer));
          else if (refused) done(() => reject(this.#wrong(command, refused, refused)));
          else if (command.unanswered.test(this.#complaints)) done(() => reject(this.#lost()));
        },
        end: (why) => done(() => reject(why)),
      };
      writeSync(this.#fifo, `${command.line}\n`);
    });
  }

  /** Logs out, so that the BMC's session slot is free again, and waits for the end of the process. */
  async close(): Promise<void> {
    closeSync(this.#fifo);
    await this.#ended;
  }

  #hear(text: string): void {
    const lines = (this.#line + text).split('\n');
    this.#line = lines.pop() ?? '';
    for (const line of lines) if (line.trim() !== '') this.#listen?.line(line.trim());
  }

  #whyEnded(spawned: boolean): PowerError | SuiteRefused {
    const failure = spawned ? sessionFailure(this.#complaints) : 'tool';
    switch (failure) {
      case 'tool':
        return new PowerError(
          'bmc.tool_missing',
          'ipmitool (or stdbuf, of coreutils) is not installed. Install the package ipmitool where hil-adapter runs.',
        );
      case 'suite':
        return new SuiteRefused();
      case 'auth':
        return new PowerError(
          'bmc.auth_failed',
          `The BMC at ${this.#where} refused the user or the password. Correct them in the node's registration, and see ` +
            'that the user may log in over LAN as administrator.',
        );
      case 'unreachable':
        return this.#lost();
      case 'busy':
        return this.#busy(`the session was not opened: ${this.#lastComplaint()}`);
      case 'unknown':
        return this.#strange(`the session ended: ${this.#lastComplaint() || 'no reason was given'}`);
    }
  }

  #lost(): PowerError {
    return new PowerError(
      'bmc.unreachable',
      `The BMC at ${this.#where} does not answer. Check its address, its cable and that IPMI over LAN is enabled.`,
    );
  }

  #wrong(command: IpmiCommand<unknown>, what: string, said: string): PowerError {
    return command.busy.test(said) ? this.#busy(what) : this.#strange(what);
  }

  #busy(what: string): PowerError {
    return new PowerError('bmc.busy', `The BMC at ${this.#where} is busy, or not ready yet: ${what}.`);
  }

  #strange(what: string): PowerError {
    return new PowerError(
      'bmc.protocol',
      `The BMC at ${this.#where} did not do what was asked: ${what}. Reset the BMC, or update its firmware.`,
    );
  }

  #lastComplaint(): string {
    const lines = this.#complaints.split('\n').map((line) => line.trim());
    return lines.findLast((line) => line !== '' && !line.startsWith('Error: Unable to establish')) ?? '';
  }
}
