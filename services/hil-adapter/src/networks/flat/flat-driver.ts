import { NetworkError, type Attachment, type NetworkDriver } from '../network.port.js';

/**
 * One network that every node is always cabled to. **It isolates nobody**: a node reaches every other node, and stays in the network when
 * it is detached. It is for a lab, or for machines of one owner. The driver only refuses networks that do not exist, and has no state.
 */
export class FlatNetworkDriver implements NetworkDriver {
  readonly isolates = false;

  constructor(private readonly network: string) {}

  async ensureAttached(attachment: Attachment): Promise<void> {
    this.#check(attachment);
  }

  async ensureDetached(attachment: Attachment): Promise<void> {
    this.#check(attachment);
  }

  async observe(attachment: Attachment): Promise<'attached'> {
    this.#check(attachment);
    return 'attached';
  }

  #check({ node, nic, network }: Attachment): void {
    if (network === this.network) return;
    throw new NetworkError(
      'network.not_found',
      `There is no network "${network}" for nic ${nic} of node ${node}: this installation has one flat network, ` +
        `"${this.network}". Use that one, or configure a network driver that has several.`,
    );
  }
}
