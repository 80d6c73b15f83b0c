import { execFile } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Login } from './node-door.js';

const run = promisify(execFile);
const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;

/** Logs in to LUN 1 with libiscsi; resolves with what the disk says of itself, rejects with libiscsi's words. */
export async function inquire({ portal, iqn, initiator, user, secret }: Login): Promise<string> {
  const env = { PATH, LIBISCSI_CHAP_USERNAME: user, LIBISCSI_CHAP_PASSWORD: secret };
  const { stdout } = await run('iscsi-inq', ['-i', initiator, `iscsi://${portal}/${iqn}/1`], { env, timeout: 60_000 });
  return stdout;
}

/** The targets that a portal shows to an initiator (iSCSI discovery). Rejects when nobody listens there. */
export async function discover({ portal, initiator }: Pick<Login, 'portal' | 'initiator'>): Promise<string> {
  const { stdout } = await run('iscsi-ls', ['-i', initiator, `iscsi://${portal}`], { env: { PATH }, timeout: 60_000 });
  return stdout;
}

interface Target {
  /** The control number of the tgtd that has it: another number is another process. */
  tgtd: number;
  tid: number;
  iqn: string;
}

/** Every target of every tgtd of an installation, from their own management sockets. */
export async function targetsOf(state: string): Promise<Target[]> {
  const names = await readdir(join(state, 'targets'));
  const controls = names.flatMap((name) => /^tgtd\.(\d+)$/.exec(name)?.[1] ?? []).map(Number);
  const lists = controls.map(async (tgtd) => {
    const listing = await manage(state, tgtd, ['--mode', 'target', '--op', 'show']);
    return [...listing.matchAll(/^Target (\d+): (\S+)$/gm)].map(([, tid, iqn]) => ({
      tgtd,
      tid: Number(tid),
      iqn: iqn!,
    }));
  });
  return (await Promise.all(lists)).flat();
}

/** Makes a target expect another secret of the same user. */
export async function expectSecret(state: string, { tgtd, tid }: Target, secret: string): Promise<void> {
  const listing = await manage(state, tgtd, ['--mode', 'target', '--op', 'show']);
  const ofTarget = listing.slice(listing.indexOf(`Target ${tid}:`));
  const user = /^ {4}Account information:\n {8}(\S+)$/m.exec(ofTarget)?.[1];
  if (!user) throw new Error(`Target ${tid} has no account:\n${listing}`);
  const account = (op: string, ...rest: string[]) =>
    manage(state, tgtd, ['--mode', 'account', '--op', op, '--user', user, ...rest]);
  await account('delete');
  await account('new', '--password', secret);
  await account('bind', '--tid', String(tid));
}

async function manage(state: string, tgtd: number, args: string[]): Promise<string> {
  const env = { PATH, TGT_IPC_SOCKET: join(state, 'targets', 'tgtd') };
  return (await run('tgtadm', ['-C', String(tgtd), '--lld', 'iscsi', ...args], { env, timeout: 60_000 })).stdout;
}
