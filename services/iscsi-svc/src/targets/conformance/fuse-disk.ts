import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { vi } from 'vitest';

const run = promisify(execFile);

/** A qcow2 file made raw by qemu-storage-daemon's FUSE export, as the file storage backend does it. */
export class FuseDisk {
  private daemon: ChildProcess | undefined;

  constructor(
    readonly qcow2: string,
    readonly path: string,
  ) {}

  static async create(qcow2: string, path: string, bytes: number): Promise<FuseDisk> {
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', qcow2, `${bytes}`]);
    await writeFile(path, '');
    const disk = new FuseDisk(qcow2, path);
    await disk.start();
    return disk;
  }

  async start(): Promise<void> {
    const node = `driver=qcow2,node-name=disk,file.driver=file,file.filename=${this.qcow2}`;
    const fuse = `type=fuse,id=disk,node-name=disk,mountpoint=${this.path},writable=on,growable=off`;
    this.daemon = spawn('qemu-storage-daemon', ['--blockdev', node, '--export', fuse], { stdio: 'ignore' });
    await vi.waitFor(async () => {
      if ((await stat(this.path)).size === 0) throw new Error('not mounted yet');
    });
  }

  /** Kills the daemon as a crash would, and clears the mount. */
  async crash(): Promise<void> {
    if (!this.daemon) return;
    const exit = once(this.daemon, 'exit');
    this.daemon.kill('SIGKILL');
    await exit;
    this.daemon = undefined;
    await run('fusermount3', ['-u', '-z', this.path]);
  }

  /** True when the qcow2 file itself holds 64 KiB of this byte at `offset`. */
  async holds(byte: number, offset: number): Promise<boolean> {
    const { stdout } = await run('qemu-io', ['-r', '-U', '-c', `read -P ${byte} ${offset} 64k`, this.qcow2]);
    return stdout.includes('read 65536/65536') && !stdout.includes('verification failed');
  }
}
