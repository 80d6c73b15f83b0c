/** What is behind a LUN. A target opens files and knows nothing else; see `Backings` for other storage. */
export interface FileBacking {
  type: 'file';
  path: string;
  /** This machine must not cache its content, because others write to the same disk. */
  direct?: boolean;
}

/** One iSCSI target with one LUN, for one initiator. This is all of its state: a driver keeps none. */
export interface ExportSpec {
  /** The tenant. Exports of different pools never share a target process, so one tenant cannot take down another's. */
  pool: string;
  iqn: string;
  backing: FileBacking;
  /** The only initiator (IQN) that may log in. */
  initiator: string;
  /** The CHAP account of that initiator. The user belongs to this export alone. */
  chap: { user: string; secret: string };
  readOnly?: boolean;
}

export interface Portal {
  address: string;
  port: number;
}

/** A target as it was found, whoever made it. `backingPath` is null where the LUN is missing or its file is gone. */
export interface ObservedExport {
  iqn: string;
  tid: number;
  pool: string;
  backingPath: string | null;
  initiators: string[];
  accounts: string[];
  sessions: { initiator: string; address?: string }[];
}

/**
 * Whether a pool should have exports, also such as the target does not have now: those that its death took away are put back later, and their
 * initiators know one portal only. A driver asks that before it gives a pool's portal up.
 */
export type IsWanted = (pool: string) => Promise<boolean>;

/**
 * A program that serves disks over iSCSI. All calls are idempotent and safe to repeat after a crash at any point; they throw `TargetError`.
 * Every driver passes `targetConformance`.
 */
export interface TargetDriver {
  /** Creates the export, or repairs it: an incomplete or different one is created again. Sessions of a correct one stay. */
  ensureExport(spec: ExportSpec): Promise<{ portals: Portal[]; lun: 1 }>;
  /** Cuts the sessions and removes LUN, target and account. Resolves only when the export is gone. */
  ensureNoExport(pool: string, iqn: string): Promise<void>;
  /** Cuts the sessions that are open now and returns their number; the initiator may log in again. */
  dropSessions(pool: string, iqn: string): Promise<number>;
  /** The pools that have, or should have, an export. */
  pools(): string[];
  /** What the hardware has, in one pool or in all. */
  observe(pool?: string): Promise<ObservedExport[]>;
  /** A pool's targets are gone, for example because their process died, until `ensureExport` puts each back. */
  onInstanceLost(listener: (pool: string) => void): void;
  /** Stops timers and closes sockets. The exports stay: they survive a restart of the service. */
  close(): Promise<void>;
}

export type TargetErrorCode =
  /** The target process does not answer, or died during the call: the same call may succeed later. */
  | 'target.unreachable'
  /** A value that the target cannot hold. */
  | 'target.invalid_value'
  /** The backing store cannot be opened. */
  | 'target.no_backing'
  /** It would be one file more than a process can show. */
  | 'storage.too_many_attached'
  /** No port, or not the port that the initiators know, is free. */
  | 'target.no_port'
  /** The target software is not on this machine. */
  | 'target.not_installed'
  /** I/O that does not end keeps the target alive. */
  | 'target.busy'
  | 'target.exists'
  | 'target.not_found'
  /** The target refused a command. */
  | 'target.failed';

/** An error of a target driver: a stable code, and a sentence that says what to do next. */
export class TargetError extends Error {
  override readonly name = 'TargetError';

  constructor(
    readonly code: TargetErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
