import type { Database, Session } from '@m2/service-kit';

/** SQL for the key of the lock that a process holds for each of its clients. `address` is a column or a parameter. */
const lockOf = (address: string) => `hashtextextended('m2 ceph client ' || ${address}, 0)`;

/**
 * The addresses of this service's clients in the Ceph cluster, for its storage (`AddressBook` of libs/rbd). A process that is killed leaves its own behind, and the next one shuts it
 * out: a request of it may still be on its way, and its watches keep images from being removed. Its lock in the database ended with it.
 *
 * When the database drops a living process's session, another one may shut that out. It connects anew then, and does its work again.
 */
export class CephClients {
  private session: Promise<Session> | undefined;

  constructor(private readonly database: Database) {}

  async dead(): Promise<string[]> {
    // Outside a transaction, these locks end with the statement.
    const rows = await this.database.query<{ address: string }>(
      `SELECT address FROM ceph_clients WHERE pg_try_advisory_xact_lock(${lockOf('address')})`,
    );
    return rows.map(({ address }) => address);
  }

  async add(address: string): Promise<void> {
    // The one before it is gone.
    await this.close();
    this.session = this.database.session();
    const session = await this.session;
    await session.query(`SELECT pg_advisory_lock(${lockOf('$1::text')})`, [address]);
    await session.query('INSERT INTO ceph_clients (address) VALUES ($1)', [address]);
  }

  async remove(addresses: string[]): Promise<void> {
    await this.database.query('DELETE FROM ceph_clients WHERE address = ANY($1)', [addresses]);
  }

  async close(): Promise<void> {
    const session = await this.session?.catch(() => undefined);
    this.session = undefined;
    session?.release(true);
  }
}
