import { spawn } from 'node:child_process';

/** A command that ended badly: its name, how it ended and the end of what it said on standard error. */
export class CommandFailed extends Error {
  readonly code = 'lab.command_failed';

  constructor(command: string, outcome: string, stderr: string) {
    super(`${command} ${outcome}: ${stderr.trim().slice(-500) || 'it said nothing'}`);
  }
}

/** The environment for the machine's tools: messages in English, and with the places that Debian gives root only. */
export const toolEnvironment = (): NodeJS.ProcessEnv => ({
  ...process.env,
  LC_ALL: 'C',
  PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`,
});

interface RunOptions {
  cwd?: string;
  env?: Record<string, string>;
  /** Written to standard input, which is then closed. */
  input?: string;
  /** Milliseconds after which the command is killed. */
  deadlineMs?: number;
}

/**
 * Runs a program without a shell and returns what it wrote to standard output.
 * Throws `CommandFailed` when it cannot be started, exits with anything but 0 or passes its deadline (60 s).
 */
export function run(file: string, args: string[], options: RunOptions = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      cwd: options.cwd,
      env: { ...toolEnvironment(), ...options.env },
      timeout: options.deadlineMs ?? 60_000,
      killSignal: 'SIGKILL',
    });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
    child.on('error', (error) => reject(new CommandFailed(file, 'did not start', error.message)));
    child.on('close', (status, signal) => {
      if (status === 0) resolve(Buffer.concat(out).toString());
      else
        reject(
          new CommandFailed(
            file,
            signal ? `was killed by ${signal}` : `exited with ${status}`,
            String(Buffer.concat(err)),
          ),
        );
    });
    // A program that ends before it has read its input is judged by its exit status, not by our broken pipe.
    child.stdin.on('error', () => {});
    child.stdin.end(options.input ?? '');
  });
}
