import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { POWER_SCRIPT } from '../node/qemu-node.js';
import { ensureNoProcessWith, signalAll } from '../process/owned-process.js';
import { toolEnvironment } from '../process/run.js';
import { untilBmcAnswers } from './presence.js';
import { lanConfig, SIMULATOR_COMMANDS, type BmcAccount } from './simulator-config.js';

/**
 * `ignores` answers every command with success and does nothing; `lies` also answers as if it had done it; `dead` takes
 * packets and never answers.
 */
export type BmcMode = 'ok' | 'ignores' | 'lies' | 'dead';

export interface BmcOptions extends BmcAccount {
  /** The BMC's own directory, an absolute path. */
  dir: string;
  name: string;
  address: string;
  port: number;
  /** The directory of the node whose power it switches. */
  nodeDir: string;
  /** The network namespace to listen in. */
  netns?: string;
}

/** Where and how to reach a BMC. ipmi_sim knows the cipher suites 1 to 3 only; ipmitool needs `-C 3` or waits 10 s. */
export interface BmcAddress extends BmcAccount {
  address: string;
  port: number;
  cipherSuite: 3;
}

/** Starts the BMC of one node: a real `ipmi_sim`, in the background, and returns when it answers. */
export async function startBmc(options: BmcOptions): Promise<BmcAddress> {
  const { dir, address, port, user, password } = options;
  await mkdir(join(dir, 'state'), { recursive: true, mode: 0o700 });
  const config = bmcMark(dir);
  await writeFile(config, lanConfig({ ...options, power: ['sh', POWER_SCRIPT, options.nodeDir] }), { mode: 0o600 });
  await writeFile(join(dir, 'bmc.emu'), SIMULATOR_COMMANDS);

  const simulator = ['ipmi_sim', '-c', config, '-f', join(dir, 'bmc.emu'), '-s', join(dir, 'state'), '-n'];
  const argv = options.netns ? ['ip', 'netns', 'exec', options.netns, ...simulator] : simulator;
  const log = await open(join(dir, 'bmc.log'), 'a');
  try {
    // Detached: the nodes of a lab can be switched for as long as the lab's directory is there.
    const child = spawn(argv[0] ?? '', argv.slice(1), {
      detached: true,
      env: toolEnvironment(),
      stdio: ['ignore', log.fd, log.fd],
    });
    await once(child, 'spawn');
    child.unref();
  } finally {
    await log.close();
  }
  await untilBmcAnswers(address, port, 15_000).catch(async (error: Error) => {
    await ensureNoBmc(dir);
    const said = await readFile(join(dir, 'bmc.log'), 'utf8');
    throw new Error(`${error.message}; ipmi_sim said: ${said.trim() || 'nothing'}`, { cause: error });
  });
  return { address, port, user, password, cipherSuite: 3 };
}

/** Makes a BMC faulty, or sound again. */
export async function setBmcMode(bmcDir: string, nodeDir: string, mode: BmcMode): Promise<void> {
  // The power script reads it again at every command.
  await writeFile(join(nodeDir, 'mode'), `${mode}\n`);
  // A stopped process: the kernel goes on to accept its packets, as a BMC that hangs would.
  await signalAll([bmcMark(bmcDir)], mode === 'dead' ? 'SIGSTOP' : 'SIGCONT');
}

/** Among an ipmi_sim's arguments, and no other BMC's. */
export const bmcMark = (dir: string): string => join(dir, 'lan.conf');

/** Stops a BMC. Does nothing when it does not run. The node keeps its power state. */
export const ensureNoBmc = (dir: string): Promise<void> => ensureNoProcessWith([bmcMark(dir)]);
