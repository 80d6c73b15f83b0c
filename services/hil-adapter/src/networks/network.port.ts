/** The kinds of network equipment that there are drivers for. */
export type SwitchKind = 'flat';

/** One nic of a node, and the network it should be in or out of. */
export interface Attachment {
  node: string;
  nic: string;
  mac: string;
  network: string;
}

/**
 * Attaches nics to networks. Every method rejects with a `NetworkError` `network.not_found` for a network that the driver does not have,
 * looks before it acts, and may be repeated.
 */
export interface NetworkDriver {
  /** Whether a node cannot reach the networks that it is not attached to. False: do not put two tenants on it. */
  readonly isolates: boolean;
  /** Returns when the nic was observed in the network. */
  ensureAttached(attachment: Attachment): Promise<void>;
  /** Returns when the nic was observed out of the network, where the driver isolates. */
  ensureDetached(attachment: Attachment): Promise<void>;
  /** What the network equipment says now, not what it was told. */
  observe(attachment: Attachment): Promise<'attached' | 'detached'>;
}

export class NetworkError extends Error {
  override readonly name = 'NetworkError';

  constructor(
    readonly code: 'network.not_found',
    message: string,
  ) {
    super(message);
  }
}
