import { type Disk, fields, M2Error } from '@m2/contracts';
import { type Kit, KIT, pageWithin, type Sql } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';

/** A row of the table. `parentTag` may be a tag of the disk itself, after a rollback; `fork` is set for tags of other disks only. */
export type DiskRow = Omit<Disk, 'createdAt' | 'trashedAt'> & {
  parentTag: string | null;
  /** Set while a command makes it larger: `sizeBytes` is what it had before. */
  growsTo: number | null;
  createdAt: Date;
  trashedAt: Date | null;
};

const select = `
  SELECT d.id, d.project, d.name, d.state, d.image, d.depth, d.volume, d.size_bytes::float8 AS "sizeBytes", d.holder, d.flattening,
    d.created_at AS "createdAt", d.trashed_at AS "trashedAt", d.parent_tag AS "parentTag", d.grows_to::float8 AS "growsTo",
    CASE WHEN t.disk <> d.id THEN jsonb_build_object('disk', t.disk, 'tag', t.id) END AS fork
  FROM disks d LEFT JOIN tags t ON t.id = d.parent_tag`;

export const toDisk = ({ parentTag: _, growsTo: __, createdAt, trashedAt, ...disk }: DiskRow): Disk => ({
  ...disk,
  createdAt: createdAt.toISOString(),
  trashedAt: trashedAt?.toISOString() ?? null,
});

@Injectable()
export class DiskStore {
  constructor(@Inject(KIT) private readonly kit: Kit) {}

  /** Finds a disk of a project by name or identifier. A disk in the trash is found by identifier only. Throws M2Error `disk.not_found`. */
  async find(nameOrId: string, project: string): Promise<Disk> {
    return toDisk(await this.row(nameOrId, project));
  }

  async row(nameOrId: string, project: string): Promise<DiskRow> {
    const where = fields.isId(nameOrId) ? 'd.id = $1' : `d.name = $1 AND d.state <> 'trashed'`;
    const [row] = await this.kit.database.query<DiskRow>(`${select} WHERE ${where} AND d.project = $2`, [
      nameOrId,
      project,
    ]);
    if (!row) throw new M2Error('disk.not_found', `There is no disk "${nameOrId}" in this project`);
    return row;
  }

  async list(filter: {
    project: string;
    name?: string | undefined;
    trashed?: boolean | undefined;
    cursor?: string | undefined;
    limit: number;
  }) {
    const { project, name = null, trashed = false, cursor, limit } = filter;
    // Names in the trash are not unique, so its cursor is an identifier. Identifiers grow with time.
    const [state, key] = trashed ? [`d.state = 'trashed'`, 'd.id'] : [`d.state <> 'trashed'`, 'd.name'];
    if (trashed && cursor && !fields.isId(cursor))
      throw new M2Error('request.invalid', 'cursor: is not a cursor of this list');
    const rows = await this.kit.database.search<DiskRow>(
      `${select} WHERE d.project = $1 AND ${state} AND ($2::text IS NULL OR d.name = $2) ${cursor ? `AND ${key} > $4` : ''}
       ORDER BY ${key} LIMIT $3`,
      [project, name, limit + 1, ...(cursor ? [cursor] : [])],
    );
    return pageWithin(rows, limit, toDisk, (row) => (trashed ? row.id : row.name));
  }

  /** The row, locked for the transaction. */
  async locked(sql: Sql, id: string, project: string): Promise<DiskRow | undefined> {
    const [row] = await sql.query<DiskRow>(`${select} WHERE d.id = $1 AND d.project = $2 FOR UPDATE OF d`, [
      id,
      project,
    ]);
    return row;
  }

  /** The row of a disk that is ready, locked for the transaction. Throws M2Error `disk.not_found`, `disk.not_ready`. */
  async ready(sql: Sql, id: string, project: string): Promise<DiskRow> {
    const row = await this.locked(sql, id, project);
    if (!row) throw new M2Error('disk.not_found', `There is no disk ${id} in this project`);
    if (row.state !== 'ready') throw new M2Error('disk.not_ready', `The disk "${row.name}" is ${row.state}`);
    return row;
  }

  /** Refuses what must not be done while another change of the disk is not finished. Throws M2Error `disk.in_use`. */
  async assertSettled(sql: Sql, { id, name, growsTo }: DiskRow): Promise<void> {
    if (growsTo !== null) throw new M2Error('disk.in_use', `The disk "${name}" is being made larger`);
    const [rollback] = await sql.query('SELECT 1 FROM former_volumes WHERE disk = $1 AND pending', [id]);
    if (rollback) throw new M2Error('disk.in_use', `The disk "${name}" is being rolled back`);
  }
}

/** Refuses what must not be done while a node uses the disk. Throws M2Error `disk.in_use`. */
export function assertFree({ name, holder }: DiskRow): void {
  if (holder) throw new M2Error('disk.in_use', `The disk "${name}" is held by provision ${holder}`);
}
