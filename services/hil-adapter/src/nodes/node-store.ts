import { M2Error, type Node } from '@m2/contracts';
import { type Kit, KIT, type Sql } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import { IsNull, MoreThan } from 'typeorm';
import type { BmcAddress } from '../power/power.port.js';
import { NodeEntity, toNode } from './node.entity.js';

const isId = (value: string) => /^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(value);

/** What a command needs to know of a node, locked or not. */
export interface HeldNode {
  id: string;
  name: string;
  firmware: Node['firmware'];
  holder: string | null;
  holder_project: string | null;
  power_effect: string | null;
  bmc: Node['bmc'];
  bmc_password: Buffer;
}

@Injectable()
export class NodeStore {
  constructor(@Inject(KIT) private readonly kit: Kit) {}

  private get repository() {
    return this.kit.database.orm.getRepository(NodeEntity);
  }

  /** A node that this project may use (absent: any). Throws M2Error `node.not_found`. */
  async find(nameOrId: string, project?: string): Promise<Node> {
    const which = isId(nameOrId) ? { id: nameOrId } : { name: nameOrId };
    const usable = project
      ? [
          { ...which, project: IsNull() },
          { ...which, project },
        ]
      : which;
    const entity = await this.repository.findOne({ where: usable, relations: { nics: true } });
    if (!entity) throw new M2Error('node.not_found', `There is no node "${nameOrId}"`);
    return toNode(entity);
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
