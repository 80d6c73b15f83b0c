import { M2Client } from '@m2/cli';
import { findFreeBasePort, status } from '@m2/supervisor';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { eventually, type TestInstallation } from '../installation.js';

/** Another gateway beside the installation's own, on the same database. It has no supervisor: `start` brings it back. */
export class SecondGateway {
  private process: ChildProcess | undefined;

  private constructor(
    private readonly command: string[],
    private readonly env: Record<string, string>,
    private readonly log: string,
    readonly url: string,
    private readonly client: M2Client,
  ) {}

  static async start({ stage: { state }, adminToken }: TestInstallation): Promise<SecondGateway> {
    const first = (await status({ state }))!.children.find(({ name }) => name === 'gateway')!.pid!;
    const lines = async (file: string) =>
      (await readFile(`/proc/${first}/${file}`, 'utf8')).split('\0').filter(Boolean);
    const [command, environment, port] = await Promise.all([lines('cmdline'), lines('environ'), findFreeBasePort()]);
    const env = {
      ...Object.fromEntries(environment.map((line) => [line.split('=', 1)[0]!, line.slice(line.indexOf('=') + 1)])),
      M2_LISTEN: `127.0.0.1:${port}`,
      M2_OPS_LISTEN: `127.0.0.1:${port + 1}`,
      M2_INSTANCE: 'second',
      // The kill switch is the first one's.
      FAULT_ORDER: '',
    };
    const url = `http://127.0.0.1:${port}`;
    const client = new M2Client({ url, token: adminToken, attempts: 1 });
    const gateway = new SecondGateway(command, env, join(state, 'logs/gateway-second.log'), url, client);
    await gateway.start();
    return gateway;
  }

  get pid(): number | undefined {
    return this.process?.exitCode === null && this.process.signalCode === null ? this.process.pid : undefined;
  }

  /** Does nothing when it runs. Returns when it answers. */
  async start(): Promise<void> {
    if (!this.pid) {
      const log = await open(this.log, 'a', 0o600);
      const [program, ...args] = this.command;
      this.process = spawn(program!, args, { cwd: '/', env: this.env, stdio: ['ignore', log.fd, log.fd] });
      await log.close();
    }
    await eventually('the second gateway', () => this.client.call('whoami').then(() => true as const));
  }

  async stop(): Promise<void> {
    if (!this.pid) return;
    const gone = once(this.process!, 'exit');
    this.process!.kill('SIGKILL');
    await gone;
  }
}
