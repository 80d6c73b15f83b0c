import { M2Error, type Tag } from '@m2/contracts';
import { type Kit, KIT, pageWithin, type Sql, violatesUnique } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import { createHash } from 'node:crypto';
import type { DiskVolume, Origin } from '@m2/storage';
import type { ImageConfig } from '../config.js';
import type { DiskRow } from './disk-store.js';

/**
 * A row of the table, with the project of the disk. `volume` is the volume that has the tag: after a rollback that is a former volume of
 * the disk.
 */
export type TagRow = Omit<Tag, 'createdAt'> & {
  project: string;
  state: 'creating' | 'ready' | 'deleting';
  volume: string;
  depth: number;
  createdAt: Date;
};

const select = `
  SELECT t.id, t.disk, d.project, t.name, t.state, t.automatic, t.volume, t.depth, t.size_bytes::float8 AS "sizeBytes",
    t.created_at AS "createdAt"
  FROM tags t JOIN disks d ON d.id = t.disk`;

/** The tag's name in the storage. It is not the name that people gave, because that can be given again. */
export const storageTag = (id: string): string => `t${id.replaceAll('-', '')}`;

/** Whether a snapshot is a tag of ours. People and backup programs make snapshots, too. */
export const isStorageTag = (tag: string): boolean => /^t[0-9a-f]{32}$/.test(tag);

/**
 * The identifier of the automatic tag of a fork or an image. It is derived from the identifier of the fork or image, so that a repeated
 * message finds the tag (RFC 9562, section 5.8: version 8 is free for such uses).
 */
export function automaticTagId(of: string): string {
  const hex = createHash('sha256').update(`automatic tag of ${of}`).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

export const volumeOf = (tag: Pick<TagRow, 'project' | 'volume'>): DiskVolume => ({
  project: tag.project,
  name: tag.volume,
});

export const originOf = (tag: TagRow): Origin => ({ disk: volumeOf(tag), tag: storageTag(tag.id) });

export const toTag = ({ id, disk, name, sizeBytes, automatic, createdAt }: TagRow): Tag => ({
  id,
  disk,
  name,
  sizeBytes,
  automatic,
  createdAt: createdAt.toISOString(),
});

@Injectable()
export class TagStore {
  constructor(@Inject(KIT) private readonly kit: Kit<ImageConfig>) {}

  async list(filter: {
    project: string;
    disk: string;
    name?: string | undefined;
    cursor?: string | undefined;
    limit: number;
  }) {
    const { project, disk, name = null, cursor = '', limit } = filter;
    const rows = await this.kit.database.search<TagRow>(
      `${select} WHERE t.disk = $1 AND d.project = $2 AND t.state = 'ready' AND ($3::text IS NULL OR t.name = $3) AND t.name > $4
       ORDER BY t.name LIMIT $5`,
      [disk, project, name, cursor, limit + 1],
    );
    return pageWithin(rows, limit, toTag, (row) => row.name);
  }

  /** The row, locked for the transaction: `SHARE` keeps the tag from being removed, `UPDATE` from being used. */
  async locked(sql: Sql, id: string, lock: 'SHARE' | 'UPDATE'): Promise<TagRow | undefined> {
    const [row] = await sql.query<TagRow>(`${select} WHERE t.id = $1 FOR ${lock} OF t`, [id]);
    return row;
  }

  /**
   * A tag of a disk that something is to be made from; it cannot be removed until the transaction ends. Throws M2Error `tag.not_found`, and
   * `disk.not_ready` when the disk is being deleted.
   */
  async usable(sql: Sql, id: string, disk: string, project: string): Promise<TagRow> {
    const tag = await this.locked(sql, id, 'SHARE');
    if (!tag || tag.disk !== disk || tag.project !== project || tag.state === 'deleting')
      throw new M2Error('tag.not_found', `The disk has no tag ${id}`);
    // A separate statement, because the one before may have waited for a transaction that put the disk into the trash.
    const [row] = await sql.query<{ name: string; state: string }>('SELECT name, state FROM disks WHERE id = $1', [
      disk,
    ]);
    if (row?.state !== 'ready') throw new M2Error('disk.not_ready', `The disk "${row?.name}" is ${row?.state}`);
    return tag;
  }

  /**
   * Records a tag that is created next. Recording it twice is fine. The limit counts the tags that people make; automatic tags are counted
   * by the disks made from them. Throws M2Error `tag.exists`, `disk.too_many_tags`.
   */
  async record(sql: Sql, disk: DiskRow, { id, name, automatic }: { id: string; name: string; automatic: boolean }) {
    const known = await this.locked(sql, id, 'SHARE');
    if (known?.disk === disk.id && known.state !== 'deleting') return known;
    if (known) throw new M2Error('tag.exists', `The tag "${known.name}" is ${known.state}`);
    if (!automatic) {
      const [row] = await sql.query<{ count: number }>(
        'SELECT count(*)::int AS count FROM tags WHERE disk = $1 AND NOT automatic',
        [disk.id],
      );
      const { maxTags } = this.kit.config;
      if (row!.count >= maxTags) throw new M2Error('disk.too_many_tags', `The disk "${disk.name}" has ${maxTags} tags`);
    }
    try {
      await sql.query(
        `INSERT INTO tags (id, disk, name, state, automatic, volume, depth, size_bytes, created_at)
         VALUES ($1, $2, $3, 'creating', $4, $5, $6, $7, now())`,
        // Of a disk that is becoming larger the tag may have either size, and what is made from a tag may be larger than it.
        [id, disk.id, name, automatic, disk.volume, disk.depth, disk.growsTo ?? disk.sizeBytes],
      );
    } catch (error) {
      if (violatesUnique(error, 'tags_name'))
        throw new M2Error('tag.exists', `The disk "${disk.name}" has a tag "${name}" already`);
      throw error;
    }
    return (await this.locked(sql, id, 'SHARE'))!;
  }

  /** The storage has the tag. Returns false when it was deleted while it was being created. */
  async markReady(sql: Sql, id: string): Promise<boolean> {
    const rows = await sql.query(`UPDATE tags SET state = 'ready' WHERE id = $1 AND state <> 'deleting' RETURNING id`, [
      id,
    ]);
    return rows.length > 0;
  }

  /** What depends on a tag, in words; empty when nothing does. Disks are named only when they are of the same project. */
  async dependents(sql: Sql, id: string): Promise<string[]> {
    const rows = await sql.query<{ what: string }>(
      `SELECT CASE WHEN d.id = t.disk THEN 'the disk itself, which was rolled back to it' ELSE 'disk ' || d.name END AS what
         FROM tags t JOIN disks d ON d.parent_tag = t.id WHERE t.id = $1
       UNION ALL SELECT 'what disk ' || d.name || ' was before a rollback'
         FROM former_volumes f JOIN disks d ON d.id = f.disk WHERE f.parent_tag = $1
       UNION ALL SELECT 'image ' || name || ', which is being copied from it' FROM images WHERE from_tag = $1
       LIMIT 5`,
      [id],
    );
    return rows.map(({ what }) => what);
  }
}
