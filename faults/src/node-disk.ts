import { portsOf } from '@m2/supervisor';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { eventually, type TestInstallation } from './installation.js';

const run = promisify(execFile);

/** A node's disk as the node sees it: over iSCSI, with the credentials in its boot script. */
export class NodeDisk {
  private constructor(
    /** `address:port` */
    readonly portal: string,
    private readonly target: string,
    private readonly initiator: string,
    private readonly user: string,
    private readonly secret: string,
  ) {}

  /** Waits so long for the node to have a disk. */
  static async of({ stage }: TestInstallation, place = 0, forMs?: number): Promise<NodeDisk> {
    const { port, provisioningAddress } = stage.running.settings;
    const mac = encodeURIComponent(stage.lab.nodes[place]!.mac);
    const look = async () => {
      const signal = AbortSignal.timeout(20_000);
      const answer = await fetch(`http://127.0.0.1:${portsOf(port).boot}/boot/ipxe?mac=${mac}`, { signal });
      const text = await answer.text();
      return text.includes('sanboot') ? text : undefined;
    };
    const script = await eventually('a boot script with a disk in it', look, forMs);
    const setting = (name: string) => new RegExp(`^set ${name} (\\S+)$`, 'm').exec(script)?.[1] ?? '';
    const [, portal = '', target = ''] = /iscsi:[^:\s]+::(\d+):1:(\S+)/.exec(script) ?? [];
    return new NodeDisk(
      `${provisioningAddress}:${portal}`,
      target,
      setting('initiator-iqn'),
      setting('username'),
      setting('password'),
    );
  }

  /** Fills a part of the disk with a byte and flushes it: from then on no crash may lose it. Rejects after `patienceMs`. */
  async write(byte: number, patienceMs = 20_000): Promise<void> {
    await this.io(patienceMs, `write -P ${byte} 8M 64k`, 'flush');
  }

  /** The volume that the target is named after. */
  get volume(): string {
    return this.target.slice(this.target.lastIndexOf(':') + 1);
  }

  /** Writes a file's bytes and flushes them. */
  async put(file: string, at: number, bytes: number): Promise<void> {
    await this.io(20_000, `write -s ${file} ${at} ${bytes}`, 'flush');
  }

  /** Rejects when the disk does not hold what was written, or cannot be written: the kernel's cache answers reads of a dead disk. */
  async verify(byte: number): Promise<void> {
    await this.io(20_000, `read -P ${byte} 8M 64k`, `write -P ${byte} 8M 64k`, 'flush');
  }

  /** Logs in anew each time, with QEMU's initiator, which is libiscsi. */
  private async io(timeout: number, ...commands: string[]): Promise<void> {
    const dir = await mkdtemp(join(tmpdir(), 'm2-faults-chap-'));
    try {
      // By a file, because other users can read argument lists.
      const secret = join(dir, 'secret');
      await writeFile(secret, this.secret, { mode: 0o600 });
      const options = {
        driver: 'raw',
        'file.driver': 'iscsi',
        'file.transport': 'tcp',
        'file.portal': this.portal,
        'file.target': this.target,
        'file.lun': '1',
        'file.initiator-name': this.initiator,
        'file.user': this.user,
        'file.password-secret': 'chap',
      };
      const disk = Object.entries(options).map(([name, value]) => `${name}=${value}`);
      const args = ['--object', `secret,id=chap,file=${secret}`, ...commands.flatMap((command) => ['-c', command])];
      const { stdout, stderr } = await run('qemu-io', [...args, '--image-opts', disk.join(',')], { timeout });
      const said = stdout + stderr;
      if (/failed|error/i.test(said)) throw new Error(said);
    } finally {
      await rm(dir, { recursive: true });
    }
  }
}
