import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/**
 * A home directory for ipmitool, with the FIFOs for its commands.
 *
 * - At each start ipmitool parses IANA's list of enterprise numbers (4.7 MB, 25 ms of CPU) only to print vendors' names. It
 *   prefers a list in its home directory, so a list of one entry makes a session seven times cheaper; an empty one is an error.
 * - Node gives a child a socket as standard input, and a socket cannot be opened by a name, which is what `ipmitool exec` does.
 *   Making a FIFO takes a process, so FIFOs are reused.
 */
export class IpmiHome {
  readonly #idle: string[] = [];
  #made = 0;

  private constructor(readonly path: string) {}

  /** In `directory`, which must be ours alone: it is cleared of what a killed process left. Absent: a new temporary one. */
  static async make(directory?: string): Promise<IpmiHome> {
    if (directory) await rm(directory, { recursive: true, force: true });
    const path = directory ?? (await mkdtemp(join(tmpdir(), 'm2-ipmi-')));
    const misc = join(path, '.local/usr/share/misc');
    await mkdir(misc, { recursive: true, mode: 0o700 });
    await writeFile(join(misc, 'enterprise-numbers.txt'), '0\n  Reserved\n    IANA\n      iana&iana.org\n');
    return new IpmiHome(path);
  }

  /** The path of an unused FIFO, reserved until it is given back. */
  async takeFifo(): Promise<string> {
    const idle = this.#idle.pop();
    if (idle) return idle;
    this.#made += 1;
    const path = join(this.path, `commands-${this.#made}`);
    await run('mkfifo', ['-m', '600', path]);
    return path;
  }

  giveBack(fifo: string): void {
    this.#idle.push(fifo);
  }

  remove(): Promise<void> {
    return rm(this.path, { recursive: true, force: true });
  }
}
