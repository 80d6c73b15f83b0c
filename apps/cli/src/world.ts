import type { ExitCode } from './exit-codes.js';

/** Everything outside of the process that a command touches, so that a test can be a person at a terminal. */
export interface World {
  env: Readonly<Record<string, string | undefined>>;
  home: string;
  cwd: string;
  stdin: NodeJS.ReadableStream & { isTTY?: boolean; setRawMode?: (raw: boolean) => unknown };
  stdout: Screen;
  stderr: Screen;
  /** Calls `listener` on Ctrl-C instead of dying; returns how to stop listening. */
  onInterrupt: (listener: () => void) => () => void;
}

export interface Screen {
  write: (text: string) => unknown;
  isTTY?: boolean;
  columns?: number;
  rows?: number;
}

/** Ends a command at once with this code, with nothing to print. */
export class Exit extends Error {
  constructor(readonly exitCode: ExitCode) {
    super(`exit ${exitCode}`);
  }
}
