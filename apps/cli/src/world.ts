import type { ExitCode } from './exit-codes.js';

/** Everything outside of the process that a command touches, so that a test can be a person at a terminal. */
export interface World {
  env: Readonly<Record<string, string | undefined>>;
  home: string;
  cwd: string;
  stdin: NodeJS.ReadableStream & { isTTY?: boolean; setRawMode?: (raw: boolean) => unknown };
  stdout: Output;
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

/** Where data goes: text, or the bytes of a disk; `written` is called when there is room for more. */
export interface Output extends Screen {
  write: (data: string | Uint8Array, written?: (error?: Error | null) => void) => unknown;
}

/** Ends a command at once with this code, with nothing to print. */
export class Exit extends Error {
  constructor(readonly exitCode: ExitCode) {
    super(`exit ${exitCode}`);
  }
}
