import type { Bmc } from '@m2/contracts';

/** How to reach and log in to the baseboard management controller (BMC) of one node. Its `driver` names the driver that can. */
export type BmcAddress = Bmc;

export type PowerState = 'on' | 'off';

/**
 * Gives the turns at the BMCs. `patience` ends the wait for a turn; `lost` aborts when the turn is another process's, and the conversation must stop.
 */
export interface BmcTurns {
  take<T>(bmc: string, patience: AbortSignal, talk: (lost: AbortSignal) => Promise<T>): Promise<T>;
}

export interface PowerCall {
  /** Milliseconds until the call fails for sure, including the wait for its turn at the BMC. */
  deadlineMs: number;
  signal?: AbortSignal;
}

export interface BootCall extends PowerCall {
  firmware: 'bios' | 'uefi';
  /** Runs when the node was observed off, and before it is powered on. What it records tells a repeated call apart. */
  whenOff?: () => Promise<void>;
}

/**
 * Powers nodes. Every method rejects with a `PowerError`. Calls to the same BMC wait for each other, because BMCs mix up concurrent
 * sessions.
 */
export interface PowerDriver {
  /** One reading of the power state. */
  state(bmc: BmcAddress, call: PowerCall): Promise<PowerState>;

  /**
   * Makes the node boot from its network now, once; returns when it was observed on. A node that is already on is powered off first
   * (observed off), because it would go on running what it runs. For that reason it is not idempotent: called twice, it boots twice.
   */
  bootFromNetwork(bmc: BmcAddress, call: BootCall): Promise<void>;

  /** Returns when two readings in a row said off: BMCs answer "done" before the power is gone, or without doing anything. */
  ensureOff(bmc: BmcAddress, call: PowerCall): Promise<void>;

  /** Ends what is running (it fails with `service.unavailable`) and leaves no process or file behind. */
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
  /** The BMC refused a command, or its answer was not understood. */
  | 'bmc.protocol'
  /** The program that speaks the protocol is not installed. */
  | 'bmc.tool_missing'
  /** A field of the address or of the call has a value that must not be passed on. */
  | 'request.invalid'
  | 'operation.cancelled'
  /** The driver was closed. */
  | 'service.unavailable';

/** The message says which BMC, what happened and what to do next. It never has a password. */
export class PowerError extends Error {
  override readonly name = 'PowerError';

  constructor(
    readonly code: PowerErrorCode,
    message: string,
  ) {
    super(message);
  }
}
