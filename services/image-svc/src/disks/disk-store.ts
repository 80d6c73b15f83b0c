import { type Disk, fields, M2Error } from '@m2/contracts';
import { type Kit, KIT, type Sql } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import { MoreThan } from 'typeorm';
import { DiskEntity, toDisk } from './disk.entity.js';

const columns = `id, project, name, state, image, volume, size_bytes::float8 AS "sizeBytes", holder, created_at AS "createdAt"`;

@Injectable()
export class DiskStore {
  constructor(@Inject(KIT) private readonly kit: Kit) {}

  private get repository() {
    return this.kit.database.orm.getRepository(DiskEntity);
  }

  /** A disk of a project, by name or identifier. Throws M2Error `disk.not_found`. */
  async find(nameOrId: string, project: string): Promise<Disk> {
    const [row] = await this.kit.database.query<Row>(
      `SELECT ${columns} FROM disks WHERE ${fields.isId(nameOrId) ? 'id' : 'name'} = $1 AND project = $2`,
      [nameOrId, project],
    );
    if (!row) throw new M2Error('disk.not_found', `There is no disk "${nameOrId}" in this project`);
    return { ...row, createdAt: row.createdAt.toISOString() };
  }

  async list(filter: { project: string; name?: string | undefined; cursor?: string | undefined; limit: number }) {
    const entities = await this.repository.find({
      where: {
        project: filter.project,
        ...(filter.name ? { name: filter.name } : filter.cursor && { name: MoreThan(filter.cursor) }),
      },
      order: { name: 'ASC' },
      take: filter.limit + 1,
    });
    const items = entities.slice(0, filter.limit).map(toDisk);
    return entities.length > filter.limit ? { items, next: items.at(-1)!.name } : { items };
  }

  /** The row, plain and locked for the transaction: the hot path. */
  async locked(sql: Sql, id: string, project: string): Promise<Disk | undefined> {
    const [row] = await sql.query<Row>(`SELECT ${columns} FROM disks WHERE id = $1 AND project = $2 FOR UPDATE`, [
      id,
      project,
    ]);
    return row && { ...row, createdAt: row.createdAt.toISOString() };
  }
}

type Row = Omit<Disk, 'createdAt'> & { createdAt: Date };
