import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { run, toolEnvironment } from '../process/run.js';

export interface TestTarget {
  port: number;
  iqn: string;
  user: string;
  password: string;
  stop(): Promise<void>;
}

async function freeTcpPort(address: string): Promise<number> {
  const server = createServer().listen(0, address);
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

/** A real tgtd of this test's own, which serves `disk` as LUN 1 of one target, with CHAP. */
export async function startTarget(dir: string, disk: string, address = '127.0.0.1'): Promise<TestTarget> {
  const target = {
    port: await freeTcpPort(address),
    iqn: 'iqn.2026-11.test.m2:disk',
    user: 'node-1',
    password: 'secret-of-node-1',
  };
  const env = { ...toolEnvironment(), TGT_IPC_SOCKET: join(dir, 'tgt.sock') };
  // The control port is only part of the socket's name, which is this test's already.
  const args = ['-f', '-t', '1', '-C', '1', '--iscsi', `portal=${address}:${target.port}`];
  const daemon = spawn('tgtd', args, { env, stdio: 'ignore' });
  const ended = once(daemon, 'exit');
  const admin = (...rest: string[]) => run('tgtadm', ['-C', '1', '--lld', 'iscsi', ...rest], { env });
  const deadline = performance.now() + 15_000;
  while (!(await admin('--mode', 'system', '--op', 'show').catch(() => ''))) {
    if (performance.now() > deadline || daemon.exitCode !== null) throw new Error('tgtd does not answer');
    await delay(50);
  }
  await admin('--mode', 'target', '--op', 'new', '--tid', '1', '--targetname', target.iqn);
  await admin('--mode', 'logicalunit', '--op', 'new', '--tid', '1', '--lun', '1', '--backing-store', disk);
  await admin('--mode', 'account', '--op', 'new', '--user', target.user, '--password', target.password);
  await admin('--mode', 'account', '--op', 'bind', '--tid', '1', '--user', target.user);
  await admin('--mode', 'target', '--op', 'bind', '--tid', '1', '--initiator-address', 'ALL');
  return {
    ...target,
    stop: async () => {
      // tgtd ignores SIGTERM while it has targets.
      daemon.kill('SIGKILL');
      await ended;
    },
  };
}
