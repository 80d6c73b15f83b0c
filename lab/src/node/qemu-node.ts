import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureNoProcessWith, processesWith } from '../process/owned-process.js';
import { run } from '../process/run.js';
import { OVMF_VARS, qemuCommand, type QemuNode } from './qemu-args.js';

/** Read from the sources: the compiler copies no shell scripts, and src and dist are equally deep. */
export const POWER_SCRIPT = fileURLToPath(new URL('../../src/node/power.sh', import.meta.url));

export interface RunningNode {
  pid: number;
  /** Cuts the power, like pulling the plug; returns when the machine is off. */
  stop(): Promise<void>;
  running(): Promise<boolean>;
}

/** As a word of the shell, whatever it holds. */
export const shellWord = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** Writes what the power script needs to start this node, into the node's directory (made when missing). */
export async function prepareQemuNode(node: QemuNode): Promise<void> {
  await mkdir(node.dir, { recursive: true, mode: 0o700 });
  if (node.firmware !== 'bios') await copyFile(OVMF_VARS, join(node.dir, 'uefi-vars.fd'));
  await run('mkfifo', ['-m', '600', join(node.dir, 'mon.in'), join(node.dir, 'mon.out')]);
  await writeFile(join(node.dir, 'command'), `set -- ${qemuCommand(node).map(shellWord).join(' ')}\n`);
}

/** Powers a node on and returns when its QEMU runs. Throws with QEMU's own words when it does not start. */
export async function startQemuNode(node: QemuNode): Promise<RunningNode> {
  await prepareQemuNode(node);
  await run('sh', [POWER_SCRIPT, node.dir, 'set', 'power', '1']);
  const pid = await nodeProcess(node.dir);
  if (pid === undefined) throw new Error(`The QEMU of ${node.name} ended at once; see ${join(node.dir, 'qemu.log')}`);
  return {
    pid,
    stop: () => ensureNoProcessWith([qemuMark(node.dir)]),
    running: () => isPoweredOn(node.dir),
  };
}

/** Among a QEMU's arguments, and no other node's. */
export const qemuMark = (dir: string): string => join(dir, 'qemu.pid');

const nodeProcess = async (dir: string): Promise<number | undefined> => (await processesWith([qemuMark(dir)]))[0];

/** Whether a node really is on, whatever its BMC says. */
export async function isPoweredOn(dir: string): Promise<boolean> {
  const power = await readFile(join(dir, 'power'), 'utf8').catch(() => '');
  return power.trim() === '1' || (await nodeProcess(dir)) !== undefined;
}
