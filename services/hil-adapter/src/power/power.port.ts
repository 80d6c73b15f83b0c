import type { Bmc } from '@m2/contracts';

/** How to reach and log in to the baseboard management controller (BMC) of one node. Its `driver` names the driver that can. */
export type BmcAddress = Bmc;

export type PowerState = 'on' | 'off';

export interface PowerCall {
  /** Milliseconds until the call fails for sure, the wait for its turn at the BMC included. */
  deadlineMs: number;
  signal?: AbortSignal;
}

export interface BootCall extends PowerCall {
  firmware: 'bios' | 'uefi';
  /** Runs when the node was observed off, and before it is powered on: what is on record then tells a repeated call apart. */
  whenOff?: () => Promise<void>;
}

/**
 * Powers nodes. Every method rejects with a `PowerError`; calls to the same BMC wait for each other, as BMCs mix up sessions
 * that are open at the same time.
 */
export interface PowerDriver {
  /** One reading of the power state. */
  state(bmc: BmcAddress, call: PowerCall): Promise<PowerState>;

  /**
   * Makes the node boot from its network now, once: returns when it was observed on. A node that is on already is powered off
   * first (observed off), as it would go on running what it runs. Not idempotent for that reason: called twice, it boots twice.
   */
  bootFromNetwork(bmc: BmcAddress, call: BootCall): Promise<void>;

  /** Returns when two readings in a row said off: BMCs answer "done" before the power is gone, or without doing anything. */
  ensureOff(bmc: BmcAddress, call: PowerCall): Promise<void>;

  /** Ends what is under way (it fails with `service.unavailable`) and leaves no process or file behind. */
  close(): Promise<void>;
}

export type PowerErrorCode =
  /** Nothing answers at the address, or it stopped answering. */
  | 'bmc.unreachable'
  | 'bmc.auth_failed'
  /** The BMC said that it did it, and the power state says that it did not. */
  | 'bmc.ignored_command'
  | 'bmc.timeout'
  /** The BMC says that it is busy or not ready yet: the same call may succeed a moment later. */
  | 'bmc.busy'
  /** The BMC refused a command, or answered what we do not understand. */
  | 'bmc.protocol'
  /** The program that speaks the protocol is not installed. */
  | 'bmc.tool_missing'
  /** A field of the address or of the call has a value that we refuse to pass on. */
  | 'request.invalid'
  | 'operation.cancelled'
  /** The driver was closed. */
  | 'service.unavailable';

/** The message says which BMC, what happened and what to do next; it never holds a password. */
export class PowerError extends Error {
  override readonly name = 'PowerError';

  constructor(
    readonly code: PowerErrorCode,
    message: string,
  ) {
    super(message);
  }
}
