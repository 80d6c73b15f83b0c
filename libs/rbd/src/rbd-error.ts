import { constants } from 'node:os';
import type { Failure } from './protocol.ts';

export type RbdErrorCode =
  'not_found' | 'exists' | 'busy' | 'full' | 'timeout' | 'unavailable' | 'denied' | 'invalid' | 'failed';

/** The error of every call: a stable code, the function of librados or librbd (or the call) that failed, and its errno. */
export class RbdError extends Error {
  override readonly name = 'RbdError';
  readonly code: RbdErrorCode;
  readonly call: string;
  readonly errno: number | undefined;

  constructor(code: RbdErrorCode, call: string, reason: string, errno?: number) {
    super(`${call}: ${reason}. ${remedies[code]}`);
    this.code = code;
    this.call = call;
    this.errno = errno;
  }
}

const remedies: Record<RbdErrorCode, string> = {
  not_found: 'Check the names in the request: one of them is not there.',
  exists: 'Choose another name, or remove the one that is there.',
  busy: 'Remove or close what still uses it: clones, snapshots, an open disk.',
  full: 'Free space in the pool, or raise its quota.',
  timeout: 'Check that the cluster answers, then retry.',
  unavailable: 'Check that the cluster can be reached, then retry.',
  denied: 'Give the cephx user the capabilities for this pool and namespace.',
  invalid: 'Correct the request.',
  failed: "Look into the cluster's log.",
};

const { errno } = constants;

/**
 * A blocklisted client gets this for everything from then on (EBLOCKLISTED in Ceph's include/rados.h, which is ESHUTDOWN, which Node does
 * not list). It has to connect again.
 */
export const blocklisted = 108;

/** What errno means to our callers. */
const codes = new Map<number, RbdErrorCode>([
  [errno.ENOENT, 'not_found'],
  [errno.EEXIST, 'exists'],
  [errno.EBUSY, 'busy'],
  [errno.ENOTEMPTY, 'busy'],
  [errno.ENOSPC, 'full'],
  [errno.EDQUOT, 'full'],
  [errno.ETIMEDOUT, 'timeout'],
  [errno.ECONNREFUSED, 'unavailable'],
  [errno.ENOTCONN, 'unavailable'],
  [blocklisted, 'unavailable'],
  [errno.EPERM, 'denied'],
  [errno.EACCES, 'denied'],
  [errno.EINVAL, 'invalid'],
  [errno.EDOM, 'invalid'],
  [errno.ERANGE, 'invalid'],
  [errno.EROFS, 'invalid'],
  [errno.EXDEV, 'invalid'],
  [errno.ENAMETOOLONG, 'invalid'],
]);

const names = new Map(Object.entries(errno).map(([name, number]) => [number, name]));

/** The error for what the child reported about one call. */
export function errorOf(failure: Failure): RbdError {
  const { call, errno, text } = failure;
  if (errno === undefined) return new RbdError('failed', call, text ?? 'failed');
  const reason = [names.get(errno) ?? `errno ${errno}`, text].filter(Boolean).join(', ');
  return new RbdError(codes.get(errno) ?? 'failed', call, reason, errno);
}

/** The error of a connection that could not be made. A missing file is ENOENT here, too, but no image is missing. */
export function connectErrorOf(failure: Failure): RbdError {
  const { code, errno } = errorOf(failure);
  const known = code === 'denied' || code === 'timeout' ? code : 'unavailable';
  const name = errno === undefined ? failure.text : (names.get(errno) ?? `errno ${errno}`);
  const reason = `no connection (${name}) with this configuration, user and keyring`;
  return new RbdError(known, failure.call, reason, errno);
}
