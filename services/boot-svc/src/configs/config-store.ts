import type { BootConfig } from '@m2/contracts';
import type { Sql } from '@m2/service-kit';

export interface ConfigRow {
  id: string;
  project: string;
  provision: string;
  node: string;
  node_name: string;
  mac: string;
  export: string;
  initiator: string;
  state: BootConfig['state'];
  address: string | null;
  report: BootConfig['report'];
  created_at: Date;
  script_served_at: Date | null;
  booted_at: Date | null;
}

const columns =
  'id, project, provision, node, node_name, mac, export, initiator, state, host(address) AS address, report, created_at, script_served_at, booted_at';

type Row = ConfigRow & Record<string, unknown>;

export const configById = async (sql: Sql, id: string): Promise<ConfigRow | undefined> =>
  (await sql.query<Row>(`SELECT ${columns} FROM boot_configs WHERE id = $1`, [id]))[0];

export const configByMac = async (sql: Sql, mac: string): Promise<ConfigRow | undefined> =>
  (await sql.query<Row>(`SELECT ${columns} FROM boot_configs WHERE mac = $1`, [mac]))[0];

/** The addresses that nodes of boots in progress have, one nic for each. */
export const heldAddresses = (sql: Sql): Promise<{ mac: string; address: string }[]> =>
  sql.query(`SELECT DISTINCT ON (address) mac, host(address) AS address FROM boot_configs WHERE address IS NOT NULL
             ORDER BY address, created_at`);

export const refOf = ({ id, project, provision, node, mac }: ConfigRow) => ({ id, project, provision, node, mac });

export const toConfig = (row: ConfigRow): BootConfig => ({
  id: row.id,
  project: row.project,
  provision: row.provision,
  node: row.node,
  mac: row.mac,
  exportId: row.export,
  state: row.state,
  createdAt: row.created_at.toISOString(),
  scriptServedAt: row.script_served_at?.toISOString() ?? null,
  bootedAt: row.booted_at?.toISOString() ?? null,
  report: row.report,
});
