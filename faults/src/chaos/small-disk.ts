import { execFile } from 'node:child_process';
import { appendFile, mkdtemp, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);
const size = '3G';

/** A file system of its own for all that a run writes, so that it can be full without harm to others. Only root can mount one. */
export class SmallDisk {
  private full = false;

  private constructor(
    private readonly directory: string | undefined,
    private readonly before: string | undefined,
  ) {}

  /** Temporary directories are made in it from here on. */
  static async mount(): Promise<SmallDisk> {
    const before = process.env['TMPDIR'];
    // Short, because sockets are below it.
    const directory = await mkdtemp(join(tmpdir(), 'c-'));
    const file = `${directory}.img`;
    try {
      await run('truncate', ['-s', size, file]);
      // Nothing is kept back for root.
      await run('mkfs.ext4', ['-q', '-m', '0', file]);
      await run('mount', ['-o', 'loop', file, directory]);
      await run('chmod', ['1777', directory]);
    } catch {
      await rm(file, { force: true });
      await rm(directory, { recursive: true });
      return new SmallDisk(undefined, before);
    }
    process.env['TMPDIR'] = directory;
    return new SmallDisk(directory, before);
  }

  /** Leaves no byte free for so long. */
  async fill(forMs: number): Promise<string> {
    if (this.directory === undefined) return 'no file system to fill (needs root)';
    if (this.full) return 'full already';
    this.full = true;
    const file = this.filling(this.directory);
    const { bavail, bsize } = await statfs(this.directory);
    await run('fallocate', ['-l', String(bavail * bsize), file]).catch(() => {});
    // What others freed meanwhile, and what fallocate left.
    for (let more = true; more;)
      more = await appendFile(file, Buffer.alloc(2 ** 20)).then(
        () => true,
        () => false,
      );
    void pause(forMs, undefined, { ref: false }).then(() => this.empty());
    return 'full';
  }

  async empty(): Promise<void> {
    if (this.directory !== undefined) await rm(this.filling(this.directory), { force: true });
    this.full = false;
  }

  async unmount(): Promise<void> {
    if (this.directory === undefined) return;
    if (this.before === undefined) delete process.env['TMPDIR'];
    else process.env['TMPDIR'] = this.before;
    await run('umount', ['--lazy', this.directory]);
    await rm(this.directory, { recursive: true, force: true });
    await rm(`${this.directory}.img`, { force: true });
  }

  private filling(directory: string): string {
    return join(directory, 'filling');
  }
}
