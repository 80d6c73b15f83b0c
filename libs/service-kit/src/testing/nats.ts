import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { testRun } from './test-run.js';
import { until } from './until.js';

/** A nats-server with JetStream of a test file's own: it is there in 30 ms. On loopback, at a port that the kernel chose. */
export interface TestNats {
  readonly url: string;
  /** Starts it again at the same port, with the streams that it had. */
  start(): Promise<void>;
  halt(): Promise<void>;
  stop(): Promise<void>;
}

/** `config`: more of the server's configuration; without `jetStream` there are no events. */
export async function startNats({ jetStream = true, config = '' } = {}): Promise<TestNats> {
  const directory = mkdtempSync(join(testRun(), 'nats-'));
  let port = -1; // the server's word for "any"
  const file = join(directory, 'nats.conf');
  writeFileSync(file, config);
  const launch = async () => {
    const where = ['-a', '127.0.0.1', '-p', String(port), '--ports_file_dir', directory];
    const child = spawn('nats-server', ['-c', file, ...where, ...(jetStream ? ['-js', '-sd', directory] : [])], {
      stdio: 'ignore',
    });
    const ports = join(directory, `nats-server_${child.pid}.ports`);
    port = await until('nats-server listens', () => {
      if (child.exitCode !== null) throw new Error('nats-server did not start');
      return portIn(ports);
    });
    return child;
  };
  let server = await launch();
  const halt = async () => {
    if (server.exitCode !== null || server.signalCode !== null) return;
    const gone = once(server, 'exit');
    server.kill('SIGKILL');
    await gone;
  };
  return {
    url: `nats://127.0.0.1:${port}`,
    async start() {
      server = await launch();
    },
    halt,
    async stop() {
      await halt();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** `{ "nats": ["nats://127.0.0.1:41234"], … }`; the file is there before it is written to its end. */
function portIn(file: string): number | undefined {
  try {
    const { nats } = JSON.parse(readFileSync(file, 'utf8')) as { nats: string[] };
    return Number(new URL(nats[0] as string).port);
  } catch {
    return undefined;
  }
}
