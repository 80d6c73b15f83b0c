import { randomInt } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { TargetError, type ExportSpec } from '../target.port.js';
import { noBacking } from './backing-file.js';
import type { TgtClient } from './tgt-client.js';
import { parseConnections, parseTargets, type ListedConnection, type ListedTarget } from './tgt-listing.js';
import { scsiIdentity } from './export-values.js';

/** How long sessions may take to end: I/O in progress at the medium is waited for. */
const CUT_DEADLINE_MS = 5_000;

/**
 * The back-end. Not `aio`, although it needs no threads: it answers SYNCHRONIZE CACHE without doing anything (usr/bs_aio.c), so flushed
 * writes would be lost with the machine, or with the daemon behind a FUSE file.
 */
const BACKEND = 'rdwr';

/** Numbers are never used twice: an unfinished login keeps the number, and would end in another's target. */
const newTid = () => randomInt(1, 2 ** 31 - 1);

export async function listTargets(client: TgtClient): Promise<ListedTarget[]> {
  return parseTargets(await client.call({ mode: 'target', op: 'show' }));
}

export async function listConnections(client: TgtClient, tid: number): Promise<ListedConnection[]> {
  return parseConnections(await client.call({ mode: 'connection', op: 'show', tid }));
}

/** Creates the target of an export and returns its number; undefined, and it does nothing, when tgtd has one with its name. */
export async function createTarget(client: TgtClient, spec: ExportSpec): Promise<number | undefined> {
  const tid = newTid();
  const params = { targetname: spec.iqn };
  if (!(await client.callIfNew({ mode: 'target', op: 'new', tid, params }))) return undefined;
  try {
    await addLun(client, tid, spec);
    await addAccount(client, tid, spec);
    // The ACL goes last, because it lets initiators in: a target without an ACL entry admits nobody, but a target without an account admits
    // without CHAP.
    await client.call({ mode: 'target', op: 'bind', tid, params: { 'initiator-name': spec.initiator } });
    return tid;
  } catch (error) {
    // An incomplete target admits nobody, but it would keep the backing store open. If this fails, too, the next attempt repairs it.
    await client.callIfThere({ mode: 'target', op: 'delete', tid }).catch(() => undefined);
    throw error;
  }
}

/** Whether the target is what was asked for, as far as tgtd shows it: it does not show the secret. */
export function isAsSpecified(target: ListedTarget, spec: ExportSpec): boolean {
  const lun = target.luns.find(({ lun }) => lun === 1);
  return (
    target.ready &&
    // tgtd's own controller is LUN 0.
    target.luns.length === 2 &&
    lun?.type === BACKEND &&
    lun.path === spec.backing.path &&
    lun.direct === (spec.backing.direct ?? false) &&
    lun.readOnly === (spec.readOnly ?? false) &&
    isOnly(target.accounts, spec.chap.user) &&
    isOnly(target.acl, spec.initiator)
  );
}

const isOnly = (list: string[], value: string) => list.length === 1 && list[0] === value;

/** Gives the target's account a new secret. Sessions stay; in between nobody can log in. */
export async function replaceSecret(client: TgtClient, tid: number, spec: ExportSpec): Promise<void> {
  const params = { 'initiator-name': spec.initiator };
  // The ACL is removed first: tgtd cannot change a secret, and between the removal of the old account and the binding of the new one the
  // target would admit without CHAP.
  await client.callIfThere({ mode: 'target', op: 'unbind', tid, params });
  await addAccount(client, tid, spec);
  await client.call({ mode: 'target', op: 'bind', tid, params });
}

/** A target as whoever created or listed it knows it: what its removal needs. */
export type KnownTarget = Pick<ListedTarget, 'tid' | 'accounts'>;

/**
 * Removes every target with this name, and proves that none is left. `known` saves the listing, whose length grows with the pool. `abandon`
 * must end tgtd: it is called when I/O or a dead initiator keeps a session alive that nothing else can end.
 */
export async function ensureNoTarget(
  client: TgtClient,
  iqn: string,
  known: KnownTarget | undefined,
  abandon: () => Promise<void>,
): Promise<void> {
  if (known) {
    if (!(await removeTarget(client, known.tid, known.accounts))) return abandon();
    // Not so when somebody else made another one of this name.
    if (await isFree(client, iqn)) return;
  }
  const targets = await listTargets(client);
  for (const target of targets.filter((target) => target.iqn === iqn)) {
    const others = new Set(targets.filter(({ tid }) => tid !== target.tid).flatMap(({ accounts }) => accounts));
    const accounts = target.accounts.filter((account) => !others.has(account));
    if (!(await removeTarget(client, target.tid, accounts))) return abandon();
  }
  if (!(await isFree(client, iqn))) return abandon();
}

/** The proof is that the name can be taken: the listing has text that an initiator chose (see tgt-listing.ts). */
async function isFree(client: TgtClient, iqn: string): Promise<boolean> {
  const tid = newTid();
  if (!(await client.callIfNew({ mode: 'target', op: 'new', tid, params: { targetname: iqn } }))) return false;
  await client.call({ mode: 'target', op: 'delete', tid });
  return true;
}

/** Cuts the sessions that are open now, waits for their end and returns their number; undefined when they stay. */
export async function cutSessions(client: TgtClient, tid: number): Promise<number | undefined> {
  let open = await listConnections(client, tid);
  const sessions = new Set(open.map(({ sid }) => sid));
  for (const { sid, cid } of open) await client.callIfThere({ mode: 'connection', op: 'delete', tid, sid, cid });
  for (const deadline = performance.now() + CUT_DEADLINE_MS; ; await delay(5)) {
    open = await listConnections(client, tid);
    if (!open.some(({ sid }) => sessions.has(sid))) return sessions.size;
    if (performance.now() > deadline) return undefined;
  }
}

/** Returns false when sessions or I/O of the target do not end. */
async function removeTarget(client: TgtClient, tid: number, accounts: string[]): Promise<boolean> {
  // Offline refuses new logins, so that the sessions only become fewer.
  await client.callIfThere({ mode: 'target', op: 'update', tid, params: { state: 'offline' } });
  for (const deadline = performance.now() + CUT_DEADLINE_MS; ; await delay(5)) {
    try {
      if ((await cutSessions(client, tid)) === undefined) return false;
      await client.callIfThere({ mode: 'target', op: 'delete', tid });
      break;
    } catch (error) {
      if (!(error instanceof TargetError)) throw error;
      if (error.code === 'target.not_found') break;
      // An unfinished login became a session, or a command has not ended yet.
      if (error.code !== 'target.busy') throw error;
      if (performance.now() > deadline) return false;
    }
  }
  // After the target: a target that loses its account admits without CHAP, and one that keeps the second of two crashes tgtd at the next
  // listing (usr/target.c, account_ctl and tgt_target_show_all).
  for (const user of accounts) await client.callIfThere({ mode: 'account', op: 'delete', params: { user } });
  return true;
}

async function addLun(client: TgtClient, tid: number, { backing, iqn, readOnly }: ExportSpec): Promise<void> {
  try {
    // Number 1, because 0 is tgtd's controller.
    const params = { path: backing.path, bstype: BACKEND, ...(backing.direct && { bsoflags: 'direct' }) };
    await client.call({ mode: 'logicalunit', op: 'new', tid, lun: 1, params });
  } catch (error) {
    if (!(error instanceof TargetError) || error.code !== 'target.failed') throw error;
    throw noBacking(backing.path, error);
  }
  const params = { ...scsiIdentity(iqn), readonly: readOnly ? '1' : '0' };
  await client.call({ mode: 'logicalunit', op: 'update', tid, lun: 1, params });
}

/** Creates the account, and binds it: from then on the initiator must authenticate. */
async function addAccount(client: TgtClient, tid: number, { chap }: ExportSpec): Promise<void> {
  const create = () =>
    client.callIfNew({ mode: 'account', op: 'new', params: { user: chap.user, password: chap.secret } });
  if (!(await create())) {
    // Left by a crash, or with another secret. Deleting it takes it from all targets: fatal if it is another's.
    const bound = (await listTargets(client)).filter(({ accounts }) => accounts.includes(chap.user));
    if (bound.some((target) => target.tid !== tid)) {
      throw new TargetError('target.exists', `the CHAP user ${chap.user} belongs to another export: give each its own`);
    }
    await client.callIfThere({ mode: 'account', op: 'delete', params: { user: chap.user } });
    await create();
  }
  await client.call({ mode: 'account', op: 'bind', tid, params: { user: chap.user } });
}
