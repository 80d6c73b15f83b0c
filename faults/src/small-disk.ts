import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmdirSync, rmSync, statfsSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const mount = (path: string, megabytes: number): boolean =>
  spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', path]).status === 0;

/** Only root may mount, and not in every container. */
export function mayMount(): boolean {
  const path = mkdtempSync(join(tmpdir(), 'm2-small-'));
  const isMounted = mount(path, 1);
  if (isMounted) execFileSync('umount', [path]);
  rmdirSync(path);
  return isMounted;
}

/** A small file system, in memory, that can be filled to the last byte. */
export class SmallDisk {
  readonly path = mkdtempSync(join(tmpdir(), 'm2-small-'));
  private readonly filler = join(this.path, 'filler');

  constructor(megabytes: number) {
    if (!mount(this.path, megabytes)) throw new Error(`cannot mount a file system at ${this.path}`);
    // As root, PostgreSQL runs as another user and has to get through.
    chmodSync(this.path, 0o711);
  }

  /** Others write and delete meanwhile: what they freed since the last call is taken, too. */
  fill(): void {
    for (let freeBytes = this.freeBytes; freeBytes > 0; freeBytes = this.freeBytes) {
      const size = (statSync(this.filler, { throwIfNoEntry: false })?.size ?? 0) + freeBytes;
      spawnSync('fallocate', ['--length', String(size), this.filler]);
    }
  }

  makeRoom(): void {
    rmSync(this.filler, { force: true });
  }

  remove(): void {
    // Lazily: what was told to end may have its log open for some milliseconds yet.
    execFileSync('umount', ['--lazy', this.path]);
    rmdirSync(this.path);
  }

  private get freeBytes(): number {
    const { bavail, bsize } = statfsSync(this.path);
    return bavail * bsize;
  }
}
