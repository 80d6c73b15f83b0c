import { fields, M2Error, type Node } from '@m2/contracts';
import { type Kit, KIT, type Sql } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import { IsNull, MoreThan } from 'typeorm';
import type { BmcAddress } from '../power/power.port.js';
import { NodeEntity, toNode } from './node.entity.js';

/** What a command needs to know of a node, locked or not. */
export interface HeldNode {
  id: string;
  name: string;
  firmware: Node['firmware'];
  holder: string | null;
  holder_project: string | null;
  broken: Node['broken'];
  power_effect: string | null;
  bmc: Node['bmc'];
  bmc_password: Buffer;
}

type FoundRow = Omit<Node, 'createdAt'> & { createdAt: Date };

@Injectable()
export class NodeStore {
  constructor(@Inject(KIT) private readonly kit: Kit) {}

  private get repository() {
    return this.kit.database.orm.getRepository(NodeEntity);
  }

  /** A node that this project may use (absent: any); plain SQL, because every provision asks. Throws M2Error `node.not_found`. */
  async find(nameOrId: string, project?: string): Promise<Node> {
    const [row] = await this.kit.database.query<FoundRow>(
      `SELECT id, name, project, firmware, bmc, holder, holder_project AS "holderProject", broken, created_at AS "createdAt",
         (SELECT jsonb_agg(jsonb_build_object('label', label, 'mac', mac) ORDER BY position) FROM nics WHERE node = nodes.id) AS nics
       FROM nodes WHERE ${fields.isId(nameOrId) ? 'id' : 'name'} = $1 AND ($2::uuid IS NULL OR project IS NULL OR project = $2)`,
      [nameOrId, project ?? null],
    );
    if (!row) throw new M2Error('node.not_found', `There is no node "${nameOrId}"`);
    return { ...row, createdAt: row.createdAt.toISOString() };
  }

  async list(filter: { project?: string | undefined; cursor?: string | undefined; limit: number }) {
    const after = filter.cursor ? { name: MoreThan(filter.cursor) } : {};
    const usable = filter.project
      ? [
          { ...after, project: IsNull() },
          { ...after, project: filter.project },
        ]
      : after;
    const entities = await this.repository.find({
      where: usable,
      relations: { nics: true },
      order: { name: 'ASC' },
      take: filter.limit + 1,
    });
    const items = entities.slice(0, filter.limit).map(toNode);
    return entities.length > filter.limit ? { items, next: items.at(-1)!.name } : { items };
  }

  /** The row, plain: the hot path. Throws M2Error `node.not_found`. */
  async row(sql: Sql, id: string): Promise<HeldNode> {
    const [row] = await sql.query<HeldNode & Record<string, unknown>>('SELECT * FROM nodes WHERE id = $1', [id]);
    if (!row) throw new M2Error('node.not_found', `There is no node ${id}`);
    return row;
  }

  bmcOf(row: HeldNode): BmcAddress {
    return { ...row.bmc, password: this.kit.secrets.open(row.bmc_password, `bmc ${row.id}`) };
  }

  sealPassword(id: string, password: string): Buffer {
    return this.kit.secrets.seal(password, `bmc ${id}`);
  }
}
