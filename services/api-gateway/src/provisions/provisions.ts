import { M2Error, type Project, type Provision } from '@m2/contracts';
import { type Kit, KIT, newestFirst, type Sql, violatesUnique } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import type { ProvisionInput } from '../sagas/provision.js';

export interface ProvisionRow {
  id: string;
  project: string;
  node: string;
  node_name: string;
  nic: string;
  network: string;
  disk: string;
  disk_name: string;
  image: string | null;
  export: string;
  boot_config: string;
  state: Provision['state'];
  operation: string;
  report: Record<string, unknown> | null;
  created_at: Date;
  ended_at: Date | null;
}

/** The bindings of nodes to disks. */
@Injectable()
export class Provisions {
  constructor(@Inject(KIT) private readonly kit: Kit) {}

  /** Throws M2Error `node.busy`, `disk.in_use`: one node and one disk have one provision at a time. */
  async insert(sql: Sql, project: string, operation: string, input: ProvisionInput): Promise<void> {
    try {
      await sql.query(
        `INSERT INTO provisions (id, project, node, node_name, nic, network, disk, disk_name, image, export, boot_config, state, operation)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'provisioning', $12)`,
        [
          input.provision,
          project,
          input.node,
          input.nodeName,
          input.nic,
          input.network,
          input.disk,
          input.diskName,
          input.image,
          input.exportId,
          input.bootConfig,
          operation,
        ],
      );
    } catch (error) {
      if (violatesUnique(error, 'provisions_node'))
        throw new M2Error('node.busy', `The node "${input.nodeName}" has a provision`);
      if (violatesUnique(error, 'provisions_disk'))
        throw new M2Error('disk.in_use', `The disk "${input.diskName}" has a provision`);
      throw error;
    }
  }

  /** Also one whose operation was abandoned: it failed, and still holds what it had. Throws M2Error `provision.not_found`, `provision.ending`. */
  async beginEnd(sql: Sql, id: string, operation: string): Promise<void> {
    const rows = await sql.query(
      `UPDATE provisions SET state = 'deprovisioning', operation = $2 WHERE id = $1 AND ended_at IS NULL AND state IN ('ready', 'booted', 'failed') RETURNING id`,
      [id, operation],
    );
    if (rows.length > 0) return;
    const [row] = await sql.query<{ state: string; operation: string }>(
      'SELECT state, operation FROM provisions WHERE id = $1',
      [id],
    );
    if (!row || ['ended', 'failed'].includes(row.state))
      throw new M2Error('provision.not_found', 'The provision has ended');
    throw new M2Error('provision.ending', `The provision is ${row.state}, by operation ${row.operation}`);
  }

  async row(project: Project, id: string): Promise<ProvisionRow> {
    const [row] = await this.kit.database.query<ProvisionRow>(
      'SELECT * FROM provisions WHERE id = $1 AND project = $2',
      [id, project.id],
    );
    if (!row) throw new M2Error('provision.not_found', `There is no provision ${id}`);
    return row;
  }

  async list(project: Project, filter: { all: boolean; cursor?: string | undefined; limit: number }) {
    const rows = await this.kit.database.search<ProvisionRow>(
      `SELECT * FROM provisions WHERE project = $1 ${filter.all ? '' : 'AND ended_at IS NULL'} AND ($2::uuid IS NULL OR id < $2)
       ORDER BY id DESC LIMIT $3`,
      [project.id, newestFirst.read(filter.cursor), filter.limit + 1],
    );
    return newestFirst.page(rows.map(toProvision), filter.limit);
  }
}

export const toProvision = (row: ProvisionRow): Provision => ({
  id: row.id,
  project: row.project,
  node: row.node,
  nodeName: row.node_name,
  nic: row.nic,
  disk: row.disk,
  diskName: row.disk_name,
  image: row.image,
  state: row.state,
  operation: row.operation,
  report: row.report,
  createdAt: row.created_at.toISOString(),
  endedAt: row.ended_at?.toISOString() ?? null,
});
