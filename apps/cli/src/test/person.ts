import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { onTestFinished } from 'vitest';
import { run } from '../program.js';
import type { World } from '../world.js';

export interface Ran {
  code: number;
  out: string;
  err: string;
}

interface PersonOptions {
  env?: Record<string, string>;
  /** Sits at a terminal; else everything is a pipe. */
  terminal?: boolean;
}

/** Somebody who runs `m2`, with a home directory of their own that is gone after the test. */
export class Person {
  readonly home = mkdtempSync(join(tmpdir(), 'm2-cli-'));
  readonly env: Record<string, string>;
  readonly #terminal: boolean;
  readonly #interrupts = new Set<() => void>();
  /** What is on the two screens of the command that runs. */
  out = '';
  err = '';

  constructor({ env = {}, terminal = false }: PersonOptions = {}) {
    this.env = { XDG_CONFIG_HOME: join(this.home, 'config'), M2_STATE: join(this.home, 'state'), ...env };
    this.#terminal = terminal;
    onTestFinished(() => rm(this.home, { recursive: true, force: true }));
  }

  /** Types a command line and, where `input` is given, an answer to what it asks. */
  async m2(args: string[], input = ''): Promise<Ran> {
    this.out = '';
    this.err = '';
    const stdin = Object.assign(new PassThrough(), { isTTY: this.#terminal });
    stdin.end(input);
    const world: World = {
      env: this.env,
      home: this.home,
      cwd: this.home,
      stdin,
      stdout: {
        write: (data, written) => {
          this.out += typeof data === 'string' ? data : Buffer.from(data).toString('latin1');
          written?.();
        },
        isTTY: false,
      },
      stderr: { write: (text) => void (this.err += text), isTTY: this.#terminal, columns: 100, rows: 40 },
      onInterrupt: (listener) => {
        this.#interrupts.add(listener);
        return () => this.#interrupts.delete(listener);
      },
    };
    const code = await run(args, world);
    return { code, out: this.out, err: this.err };
  }

  /** Ctrl-C; returns whether anybody listened. */
  interrupt(): boolean {
    const heard = this.#interrupts.size > 0;
    for (const listener of this.#interrupts) listener();
    return heard;
  }
}
