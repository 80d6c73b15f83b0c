/**
 * The catalogue of errors. An error is a value with a stable code: programs match on the code, people read `title` (what is
 * wrong, in general), `detail` (what is wrong, here) and `remedy` (what to do next).
 */

/**
 * What a saga does with a step that fails like this. `transient`: asks again until the step's deadline. `absent`: waits, for the service is not
 * there at all. `final`: nothing changes by itself, so it turns back. `bug`: asks again a few times with growing pauses, then turns back.
 */
export type RetryClass = 'transient' | 'absent' | 'final' | 'bug';

interface ErrorKind {
  status: number;
  title: string;
  remedy: string;
  retry: RetryClass;
  /** The command did not reach what it was for, so there is nothing to undo. */
  untouched?: boolean;
}

const kind = (status: number, title: string, remedy: string, retry: RetryClass = 'final'): ErrorKind => ({
  status,
  title,
  remedy,
  retry,
});

export const errorCatalogue = {
  'request.invalid': {
    ...kind(400, 'The request is not valid', 'Correct the fields that are named and send it again.'),
    untouched: true,
  },
  'request.not_found': kind(404, 'There is no such path', 'See /v1/openapi.json for the paths that exist.'),
  'request.method_not_allowed': kind(405, 'The path exists, but not with this method', 'See /v1/openapi.json.'),
  'request.unsupported_media_type': kind(415, 'The body is not JSON', 'Send application/json.'),
  'request.too_large': kind(
    413,
    'The body is too large',
    'Send less; images are imported by reference, not in the body.',
  ),
  'request.deadline': kind(
    504,
    'The answer did not come in time',
    'Try again; the same Idempotency-Key is safe.',
    'transient',
  ),
  'auth.missing': kind(401, 'No credentials were sent', 'Send "Authorization: Bearer <token>", or run m2 login.'),
  'auth.invalid': kind(401, 'The token is not known, or was revoked', 'Ask an admin for a new token.'),
  'auth.forbidden': kind(403, 'The token may not do this', 'Use a token with the role that the detail names.'),
  'idempotency.conflict': kind(
    409,
    'The Idempotency-Key was used with another request',
    'Use a new key for a new request.',
  ),
  'project.not_found': kind(404, 'There is no such project', 'List them with m2 project list.'),
  'project.exists': kind(409, 'A project has this name already', 'Choose another name.'),
  'project.not_empty': kind(
    409,
    'The project still has things in it',
    'Delete its provisions, disks and images first.',
  ),
  'token.not_found': kind(404, 'There is no such token', 'List them with m2 token list.'),
  'image.not_found': kind(404, 'There is no such image', 'List them with m2 image list.'),
  'image.exists': kind(409, 'An image has this name already', 'Choose another name, or delete that image.'),
  'image.not_ready': kind(409, 'The image is not ready', 'Wait for its import to end.'),
  'image.in_use': kind(
    409,
    'Disks depend on the image',
    'Delete these disks (m2 disk delete --purge), or make them independent with m2 disk flatten.',
  ),
  'image.ambiguous': kind(409, 'Several images have this name', 'Give the identifier of the one that is meant.'),
  'image.not_waiting': kind(409, 'The image waits for no upload', 'Start one with m2 image import --upload.'),
  'image.export_not_found': kind(404, 'There is no such export of an image', 'See m2 operation list.'),
  'image.not_an_image': kind(422, 'The file is not a disk image', 'Give a raw, qcow2 or vmdk disk image.'),
  'image.unsupported_format': kind(422, 'The image format is not supported', 'Convert it: qemu-img convert -O qcow2.'),
  'image.format_mismatch': kind(
    422,
    'The file is not of the format that was named',
    'Name the right format, or leave it out.',
  ),
  'image.has_backing_file': kind(422, 'The image depends on another file', 'Flatten it: qemu-img convert -O qcow2.'),
  'image.encrypted': kind(422, 'The image is encrypted', 'Decrypt it: qemu-img convert.'),
  'image.too_large': kind(
    422,
    'The image is larger than allowed',
    'Shrink it, or ask the operator to raise the limit.',
  ),
  'image.truncated': kind(422, 'The transfer ended early', 'Check the source, then import again.'),
  'image.checksum_mismatch': kind(
    422,
    'The checksum is not the one that was given',
    'Check the file and its checksum.',
  ),
  'image.source_forbidden': kind(
    422,
    'The source is not on the allow list',
    'Ask the operator to allow this host or folder.',
  ),
  'image.source_unreachable': kind(
    422,
    'The source could not be read',
    'Check the address or the path, then import again.',
  ),
  'disk.not_found': kind(404, 'There is no such disk', 'List them with m2 disk list.'),
  'disk.exists': kind(409, 'A disk has this name already', 'Choose another name.'),
  'disk.not_ready': kind(409, 'The disk is not ready', 'See its state with m2 disk show.'),
  'disk.too_many_tags': kind(409, 'The disk has as many tags as it may have', 'Delete tags that are not needed.'),
  'disk.too_deep': kind(
    409,
    'The disk lies too many clones deep',
    'Make the disk that it comes from flat first: m2 disk flatten.',
  ),
  'tag.not_found': kind(404, 'The disk has no such tag', 'List them with m2 disk tags.'),
  'tag.exists': kind(409, 'The disk has a tag of this name already', 'Choose another name.'),
  'tag.in_use': kind(
    409,
    'Disks depend on the tag',
    'Delete these disks, or make them independent with m2 disk flatten.',
  ),
  'quota.exceeded': kind(
    403,
    'The project would have more than it may',
    'Delete what is not needed (m2 disk delete --purge), or ask the operator for more.',
  ),
  'volume.exists': kind(409, 'The storage has a volume of this name', 'Choose another name.'),
  'volume.forbidden': kind(
    422,
    'M2 may not touch this volume of the storage',
    'Ask the operator to allow its pool (M2_FOREIGN_VOLUMES).',
  ),
  'disk.in_use': kind(409, 'The disk is in use', 'Deprovision the node that uses it first.'),
  'disk.too_small': kind(422, 'The disk would be smaller than its image', 'Give a size of at least that of the image.'),
  'storage.full': kind(507, 'The storage is full', 'Delete what is not needed, or add capacity.'),
  'storage.not_found': kind(500, 'The storage lost a volume', 'Run a reconcile and restore the volume from a backup.'),
  'storage.in_use': kind(409, 'The volume is in use', 'Detach it, or delete its clones, first.'),
  'storage.exists_differently': kind(
    500,
    'The storage has another volume by this name',
    'Inspect the storage by hand.',
  ),
  'storage.unavailable': kind(
    503,
    'The storage does not answer',
    'Check the storage; the operation goes on by itself.',
    'transient',
  ),
  'storage.timeout': kind(503, 'The storage did not answer in time', 'Check the storage.', 'transient'),
  'storage.bad_name': kind(500, 'The storage cannot take a volume of this name', 'Report it with the trace id.'),
  'storage.bad_size': kind(
    422,
    'The size cannot be had',
    'Give a multiple of 512 bytes, at least the size of the image.',
  ),
  'storage.bad_source': kind(422, 'The image cannot be read', 'Make it again: qemu-img convert -O qcow2.'),
  'storage.unsupported': kind(422, 'This storage cannot do that', 'See docs/storage.md for what each storage can do.'),
  'storage.aborted': kind(409, 'The import was stopped', 'Import the image again when it is wanted.'),
  'storage.misconfigured': kind(500, 'The storage is not set up right', 'Ask the operator to read the detail.'),
  'storage.read_only': kind(409, 'A golden image is never written to', 'Clone it, and use the clone.'),
  'export.not_found': kind(404, 'There is no such export', 'It may have been deleted.'),
  'export.conflict': kind(409, 'The disk is exported already', 'Deprovision the node that uses it first.'),
  'target.unreachable': kind(
    503,
    'The iSCSI target does not answer',
    'Check tgtd; exports are restored by themselves.',
    'transient',
  ),
  'target.invalid_value': kind(
    422,
    'The iSCSI target cannot take this value',
    'Use a value without commas or control characters.',
  ),
  'target.failed': kind(
    500,
    'The iSCSI target refused a command',
    'Read the detail and the log of iscsi-svc.',
    'transient',
  ),
  'target.no_backing': kind(
    500,
    'The disk behind a target cannot be opened',
    'Check the storage and the log of iscsi-svc.',
    'transient',
  ),
  'target.no_port': kind(503, 'No port is free for another target', 'Give M2 more ports, or end what uses them.'),
  'target.not_installed': kind(500, 'The iSCSI target is not installed', 'Install the package tgt.'),
  'target.busy': kind(
    503,
    'The target is kept alive by input and output that does not end',
    'Check the storage.',
    'transient',
  ),
  'target.exists': kind(500, 'The target exists already', 'Read the log of iscsi-svc.', 'transient'),
  'target.not_found': kind(500, 'The target does not exist', 'Read the log of iscsi-svc.', 'transient'),
  'node.not_found': kind(404, 'There is no such node', 'List them with m2 node list.'),
  'node.exists': kind(409, 'A node has this name or MAC already', 'Choose another name, or remove that node.'),
  'node.busy': kind(409, 'The node is reserved', 'Wait until it is released, or choose another node.'),
  'node.broken': kind(
    409,
    'The node is marked broken',
    'Choose another node, or have it repaired: m2 node mark-repaired.',
  ),
  'nic.not_found': kind(404, 'The node has no such nic', 'See its nics with m2 node show.'),
  'network.not_found': kind(404, 'There is no such network', 'Use the network that this installation has.'),
  'driver.unknown': {
    ...kind(
      501,
      'This version of M2 has no driver for the equipment',
      'Update hil-adapter, or choose a driver that it has (m2 node set-bmc).',
    ),
    untouched: true,
  },
  'bmc.unreachable': {
    ...kind(504, 'The BMC does not answer', 'Check its address, its cable and its power.', 'transient'),
    untouched: true,
  },
  'bmc.auth_failed': {
    ...kind(502, 'The BMC refused the credentials', 'Correct them with m2 node set-bmc.'),
    untouched: true,
  },
  'bmc.ignored_command': kind(502, 'The BMC said yes and did nothing', 'Reset the BMC, or power the node by hand.'),
  'bmc.timeout': kind(
    504,
    'The BMC did not finish in time',
    'Check the BMC; then resume or repeat the operation.',
    'transient',
  ),
  'bmc.busy': kind(503, 'The BMC is busy, or is just starting', 'Wait; the operation goes on by itself.', 'transient'),
  'bmc.tool_missing': {
    ...kind(500, 'The program that speaks to BMCs is not installed', 'Install the package ipmitool.'),
    untouched: true,
  },
  'bmc.protocol': kind(502, 'The BMC answered something strange', 'Update its firmware, or try another cipher suite.'),
  'boot.config_not_found': kind(404, 'There is no such boot configuration', 'It may have been deleted.'),
  'boot.conflict': kind(409, 'The nic has a boot in progress', 'Wait for it, or deprovision the node.'),
  'boot.unsafe_value': kind(
    422,
    'A boot script cannot carry this value',
    'Use letters, digits, dots, dashes and underscores.',
  ),
  'boot.timeout': kind(
    504,
    'The node did not phone home in time',
    "Look at the node's console; then provision it again.",
  ),
  'provision.not_found': kind(404, 'There is no such provision', 'List them with m2 provision list.'),
  'provision.ending': kind(
    409,
    'The provision is being changed by another operation',
    'Wait for that operation to end.',
  ),
  'operation.not_found': kind(404, 'There is no such operation', 'List them with m2 operation list.'),
  'operation.not_cancellable': kind(
    409,
    'The operation cannot be cancelled now',
    'Wait for it to end, then undo it by its opposite.',
  ),
  'operation.not_resumable': kind(
    409,
    'The operation does not wait for a person',
    'See its state with m2 operation show.',
  ),
  'operation.step_not_skippable': kind(
    409,
    'The step cannot be left out',
    'See the stuck steps with m2 operation show; fix the cause and resume, or abandon the operation.',
  ),
  'operation.cancelled': kind(409, 'The operation was cancelled', 'Start it again when it is wanted.'),
  'fence.stale': kind(409, 'A newer runner has taken over the operation', 'Nothing: the newer runner finishes it.'),
  'service.unavailable': kind(
    503,
    'A service does not answer',
    'Check m2 status; the operation goes on by itself.',
    'absent',
  ),
  internal: kind(500, 'Something went wrong inside M2', 'Look for the trace id in the logs, and report it.', 'bug'),
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof errorCatalogue;

export const isErrorCode = (code: unknown): code is ErrorCode =>
  typeof code === 'string' && Object.hasOwn(errorCatalogue, code);

/** What crosses the wire between services, and what an operation remembers of a failure. */
export interface ErrorValue {
  code: ErrorCode;
  detail: string;
  /** What the error is about, for example `{ disk: 'web-1' }`; never a secret. */
  about?: Record<string, unknown>;
}

/** An error that has a place in the catalogue. `detail` is for people: a sentence about this very case. */
export class M2Error extends Error {
  override readonly name = 'M2Error';

  constructor(
    readonly code: ErrorCode,
    readonly detail: string,
    readonly about?: Record<string, unknown>,
    options?: ErrorOptions,
  ) {
    super(`${code}: ${detail}`, options);
  }

  get status(): number {
    return errorCatalogue[this.code].status;
  }

  get retry(): RetryClass {
    return errorCatalogue[this.code].retry;
  }

  /** Whether the same call may succeed later without anybody's help. */
  get retryable(): boolean {
    return this.retry !== 'final';
  }

  get untouched(): boolean {
    return (errorCatalogue[this.code] as ErrorKind).untouched ?? false;
  }

  toValue(): ErrorValue {
    // What a device said may hold anything; PostgreSQL keeps anything but NUL.
    return {
      code: this.code,
      detail: this.detail.replaceAll('\0', '\ufffd'),
      ...(this.about && { about: this.about }),
    };
  }

  static fromValue(value: ErrorValue): M2Error {
    return new M2Error(isErrorCode(value.code) ? value.code : 'internal', value.detail, value.about);
  }

  /** Drivers throw errors with a `code` of the catalogue and know nothing of this class; all else is `internal`. */
  static from(error: unknown): M2Error {
    if (error instanceof M2Error) return error;
    const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
    const detail = typeof message === 'string' ? message : String(error);
    return new M2Error(isErrorCode(code) ? code : 'internal', detail, undefined, { cause: error });
  }
}

/** What everybody may read of an error: what broke inside names files and addresses, and is for the log. */
export const shown = <E extends { code: string; detail: string }>(error: E): E =>
  error.code === 'internal' ? { ...error, detail: errorCatalogue.internal.title } : error;

/** RFC 9457 problem details. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: ErrorCode;
  remedy: string;
  traceId?: string;
  about?: Record<string, unknown>;
}

export function toProblem(error: M2Error, traceId?: string): Problem {
  const { status, title, remedy } = errorCatalogue[error.code];
  return {
    type: `urn:m2:error:${error.code}`,
    title,
    status,
    // What broke inside is for the log; a stranger gets the trace id to ask with.
    detail: error.code === 'internal' ? title : error.detail,
    code: error.code,
    remedy,
    ...(traceId && { traceId }),
    ...(error.about && { about: error.about }),
  };
}
