import { fields, type Image, M2Error } from '@m2/contracts';
import { type Kit, KIT, pageWithin, type Sql } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import { imageColumns, type ImageRow, toImage, visibleTo, visibleToOthers } from './image-row.js';

/** Names are unique in a project only, and a list may have images of several. So the cursor is the last name and identifier. */
const cursorOf = ({ name, id }: ImageRow) => `${name}_${id}`;
const idLength = 36;

@Injectable()
export class ImageStore {
  constructor(@Inject(KIT) private readonly kit: Kit) {}

  /**
   * Finds an image that a project may use, by name or identifier; its own before others. Throws M2Error `image.not_found`,
   * `image.ambiguous`.
   */
  async find(nameOrId: string, project: string): Promise<Image> {
    return toImage(await this.row(nameOrId, project), project);
  }

  /** The same, with what only the owner may see. */
  async row(nameOrId: string, project: string): Promise<ImageRow> {
    const rows = await this.kit.database.query<ImageRow>(
      `SELECT ${imageColumns} FROM images
       WHERE ${fields.isId(nameOrId) ? 'id' : 'name'} = $1 AND (project = $2 OR ${visibleTo(2)})
       ORDER BY project <> $2 LIMIT 2`,
      [nameOrId, project],
    );
    const [first, second] = rows;
    if (!first) throw new M2Error('image.not_found', `There is no image "${nameOrId}" in this project`);
    if (second && first.project !== project)
      throw new M2Error('image.ambiguous', `Several projects share an image "${nameOrId}" with this one`);
    return first;
  }

  /** The row of an image that the project owns, locked for the transaction. */
  async locked(sql: Sql, id: string, project: string): Promise<ImageRow | undefined> {
    const [row] = await sql.query<ImageRow>(
      `SELECT ${imageColumns} FROM images WHERE id = $1 AND project = $2 FOR UPDATE`,
      [id, project],
    );
    return row;
  }

  async list(filter: {
    project: string;
    name?: string | undefined;
    own?: boolean | undefined;
    cursor?: string | undefined;
    limit: number;
  }) {
    const { project, name = null, own = false, cursor = '', limit } = filter;
    const after = [cursor.slice(0, -idLength - 1), cursor.slice(-idLength)];
    if (cursor && !fields.isId(after[1]!)) throw new M2Error('request.invalid', 'cursor: is not a cursor of this list');
    // A page of each kind, by an index of its own: an index does not help to find what has one property or another.
    const pageOf = (condition: string) =>
      `(SELECT * FROM images WHERE ${condition} AND ($2::text IS NULL OR name = $2)
          AND ($3 = '' OR (name, id) > ($3, $4::uuid)) ORDER BY name, id LIMIT $5)`;
    const others = own ? [] : visibleToOthers(1).map((visible) => `project <> $1 AND ${visible}`);
    const rows = await this.kit.database.search<ImageRow>(
      `SELECT ${imageColumns} FROM (${['project = $1', ...others].map(pageOf).join(' UNION ALL ')}) images
       ORDER BY name, id LIMIT $5`,
      [project, name, after[0], cursor ? after[1] : null, limit + 1],
    );
    return pageWithin(rows, limit, (row) => toImage(row, project), cursorOf);
  }
}
