import type { Kit } from '@m2/service-kit';

const leaseOf = (address: string) => `ceph client ${address}`;

/**
 * The addresses of this service's clients in the Ceph cluster, for its storage (`AddressBook` of libs/rbd). A process that is killed leaves its own behind, and the next one shuts it
 * out: a request of it may still be on its way, and its watches keep images from being removed. The lease on its address ended with it.
 *
 * A process that stands still for longer than its lease may be shut out, too. It connects anew when it comes back, and does its work again.
 */
export class CephClients {
  private address: string | undefined;

  constructor(private readonly kit: Pick<Kit, 'database' | 'leases'>) {}

  async dead(): Promise<string[]> {
    const rows = await this.kit.database.query<{ address: string }>('SELECT address FROM ceph_clients');
    const free = await this.kit.leases.whichAreFree(rows.map(({ address }) => leaseOf(address)));
    return rows.map(({ address }) => address).filter((address) => free.includes(leaseOf(address)));
  }

  async add(address: string): Promise<void> {
    // The one before it is gone.
    await this.close();
    this.address = address;
    await this.kit.leases.keep(leaseOf(address), `Another process has the client ${address} of Ceph`);
    await this.kit.database.query('INSERT INTO ceph_clients (address) VALUES ($1)', [address]);
  }

  async remove(addresses: string[]): Promise<void> {
    await this.kit.database.query('DELETE FROM ceph_clients WHERE address = ANY($1)', [addresses]);
  }

  async close(): Promise<void> {
    const { address } = this;
    this.address = undefined;
    if (address) await this.kit.leases.release(leaseOf(address));
  }
}
