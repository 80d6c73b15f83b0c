import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import type { Login } from './initiator.js';

const run = promisify(execFile);

/** Runs a program of libiscsi against LUN 1. The secret goes through the environment, not through the arguments. */
export async function libiscsi(tool: string, login: Login, args: string[] = []): Promise<string> {
  const { portal, iqn, initiator, chap } = login;
  const server = `iscsi://${portal.address}:${portal.port}`;
  const env = {
    PATH: process.env.PATH,
    ...(chap && { LIBISCSI_CHAP_USERNAME: chap.user, LIBISCSI_CHAP_PASSWORD: chap.secret }),
  };
  const url = tool === 'iscsi-ls' ? server : `${server}/${iqn}/1`;
  const { stdout, stderr } = await run(tool, ['-i', initiator, ...args, url], { env, timeout: 60_000 });
  return stdout + stderr;
}

/** QEMU's arguments that name LUN 1; `secretFile` is where the secret is put for it. */
async function qemuDisk({ portal, iqn, initiator, chap }: Login, secretFile: string): Promise<string[]> {
  const options = ['driver=raw,file.driver=iscsi,file.transport=tcp,file.lun=1'];
  options.push(`file.portal=${portal.address}:${portal.port},file.target=${iqn},file.initiator-name=${initiator}`);
  if (!chap) return ['--image-opts', options.join(',')];
  await writeFile(secretFile, chap.secret, { mode: 0o600 });
  options.push(`file.user=${chap.user},file.password-secret=chap`);
  return ['--object', `secret,id=chap,file=${secretFile}`, '--image-opts', options.join(',')];
}

/** Copies LUN 1 to a file. */
export async function readOut(login: Login, file: string): Promise<void> {
  const disk = await qemuDisk(login, `${file}.secret`);
  await run('qemu-img', ['convert', '-O', 'raw', ...disk, file], { timeout: 60_000 });
}

/** Fills 64 KiB at `offset` of LUN 1 with one byte, and flushes. */
export async function fill(login: Login, byte: number, offset: number, secretFile: string): Promise<void> {
  const disk = await qemuDisk(login, secretFile);
  const commands = ['-c', `write -P ${byte} ${offset} 64k`, '-c', 'flush'];
  const { stdout } = await run('qemu-io', [...disk, ...commands], { timeout: 60_000 });
  if (!stdout.includes('wrote 65536/65536')) throw new Error(stdout);
}
