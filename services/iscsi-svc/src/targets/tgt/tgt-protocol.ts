import { TargetError, type TargetErrorCode } from '../target.port.js';

/**
 * The management protocol of tgtd 1.0.85, as `tgtadm` speaks it (tgt: usr/tgtadm.h, usr/mgmt.c). One request per connection: a fixed header
 * in the byte order of the machine (little-endian wherever tgt is packaged for Node), then `key=value,key=value` and a NUL. The reply is an
 * error number, the total length, and text.
 */
const HEADER_BYTES = 120;
const REPLY_HEADER_BYTES = 8;
/** MAX_MGT_BUFSIZE in usr/mgmt.c: a longer one is dropped without an answer. */
const MAX_PARAMS_BYTES = 8 * 1024;

/** enum tgtadm_mode */
const MODES = {
  system: 0,
  target: 1,
  logicalunit: 2,
  portal: 3,
  lld: 4,
  session: 5,
  connection: 6,
  account: 7,
} as const;
/** enum tgtadm_op */
const OPS = { new: 0, delete: 1, show: 2, bind: 3, unbind: 4, update: 5 } as const;

export type TgtMode = keyof typeof MODES;
export type TgtOp = keyof typeof OPS;

export interface TgtRequest {
  mode: TgtMode;
  op: TgtOp;
  /** Target number; without it the request is about all targets (-1 in the header, GLOBAL_TID in tgtadm.h). */
  tid?: number;
  sid?: number;
  cid?: number;
  lun?: number;
  params?: Readonly<Record<string, string>>;
}

/**
 * Refuses what the parameter string cannot carry. It has no escaping: a comma would start another parameter, an equals sign another value,
 * a NUL would end the string, and a line break would forge lines in the listings that we parse.
 */
export function checkValue(name: string, value: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what it is about
  if (value === '' || /[,=\u0000-\u001f\u007f-\u009f\u2028\u2029]/.test(value) || !value.isWellFormed()) {
    throw new TargetError(
      'target.invalid_value',
      `tgt cannot hold this ${name}: use one that is not empty and has no comma, equals sign or control character`,
    );
  }
  return value;
}

/** The bytes of one request. Throws `target.invalid_value` for a parameter that cannot be carried. */
export function encodeRequest(request: TgtRequest): Buffer {
  const params = Object.entries(request.params ?? {}).map(([key, value]) => `${key}=${checkValue(key, value)}`);
  const body = params.length === 0 ? Buffer.alloc(0) : Buffer.from(`${params.join(',')}\0`, 'utf8');
  if (body.length > MAX_PARAMS_BYTES) {
    throw new TargetError(
      'target.invalid_value',
      `tgt takes ${MAX_PARAMS_BYTES} bytes of parameters: use shorter names`,
    );
  }
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(MODES[request.mode], 0);
  header.writeUInt32LE(OPS[request.op], 4);
  header.write('iscsi', 8, 'latin1'); // char lld[64]
  header.writeUInt32LE(HEADER_BYTES + body.length, 72);
  header.writeInt32LE(request.tid ?? -1, 76);
  header.writeBigUInt64LE(BigInt(request.sid ?? 0), 80);
  header.writeBigUInt64LE(BigInt(request.lun ?? 0), 88);
  header.writeUInt32LE(request.cid ?? 0, 96);
  // 100 host number, 104 device type (0 = disk), 108 account direction (0 = incoming: the initiator proves itself),
  // 112 pack, 116 force. Force stays 0: a forced delete of a target with sessions left ends in exit(-1) of the whole
  // tgtd (usr/iscsi/target.c, iscsi_target_destroy).
  return Buffer.concat([header, body]);
}

export interface TgtReply {
  error: number;
  text: string;
}

/** Decodes what was received so far; undefined while the reply is incomplete. */
export function decodeReply(bytes: Buffer): TgtReply | undefined {
  if (bytes.length < REPLY_HEADER_BYTES) return undefined;
  const length = bytes.readUInt32LE(4);
  if (bytes.length < length) return undefined;
  const text = bytes.toString('utf8', REPLY_HEADER_BYTES, Math.max(length, REPLY_HEADER_BYTES));
  return { error: bytes.readUInt32LE(0), text: text.replaceAll('\0', '') };
}

/** enum tgtadm_errno (usr/tgtadm_error.h); the index is the number. */
const ERRORS: readonly (readonly [name: string, code: TargetErrorCode])[] = [
  ['SUCCESS', 'target.failed'],
  ['UNKNOWN_ERR', 'target.failed'],
  ['NOMEM', 'target.failed'],
  ['NO_DRIVER', 'target.failed'],
  ['NO_TARGET', 'target.not_found'],
  ['NO_LUN', 'target.not_found'],
  ['NO_SESSION', 'target.not_found'],
  ['NO_CONNECTION', 'target.not_found'],
  ['NO_BINDING', 'target.not_found'],
  ['TARGET_EXIST', 'target.exists'],
  ['LUN_EXIST', 'target.exists'],
  ['BINDING_EXIST', 'target.exists'],
  ['ACL_EXIST', 'target.exists'],
  ['ACL_NOEXIST', 'target.not_found'],
  ['USER_EXIST', 'target.exists'],
  ['NO_USER', 'target.not_found'],
  ['TOO_MANY_USER', 'target.failed'],
  ['INVALID_REQUEST', 'target.failed'],
  ['OUTACCOUNT_EXIST', 'target.exists'],
  ['TARGET_ACTIVE', 'target.busy'],
  ['LUN_ACTIVE', 'target.busy'],
  ['DRIVER_ACTIVE', 'target.busy'],
  ['UNSUPPORTED_OPERATION', 'target.failed'],
  ['UNKNOWN_PARAM', 'target.failed'],
  ['PREVENT_REMOVAL', 'target.busy'],
];

/** The error for a reply's number, with the request (never its parameters: they have secrets). */
export function replyError(request: TgtRequest, error: number): TargetError {
  const [name, code] = ERRORS[error] ?? [`number ${error}`, 'target.failed'];
  const about = request.tid === undefined ? '' : ` of target ${request.tid}`;
  return new TargetError(code, `tgtd refused ${request.op} ${request.mode}${about} (${name}): see its log`);
}
