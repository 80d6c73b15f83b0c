import { fields, type Image, M2Error } from '@m2/contracts';
import { type Kit, KIT } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import { MoreThan } from 'typeorm';
import { ImageEntity, toImage } from './image.entity.js';

type Row = Omit<Image, 'createdAt'> & { createdAt: Date };

@Injectable()
export class ImageStore {
  constructor(@Inject(KIT) private readonly kit: Kit) {}

  private get repository() {
    return this.kit.database.orm.getRepository(ImageEntity);
  }

  /** An image of a project, by name or identifier. Throws M2Error `image.not_found`. */
  async find(nameOrId: string, project: string): Promise<Image> {
    const [row] = await this.kit.database.query<Row>(
      `SELECT id, project, name, state, format, size_bytes::float8 AS "sizeBytes", sha256, progress, error, created_at AS "createdAt"
       FROM images WHERE ${fields.isId(nameOrId) ? 'id' : 'name'} = $1 AND project = $2`,
      [nameOrId, project],
    );
    if (!row) throw new M2Error('image.not_found', `There is no image "${nameOrId}" in this project`);
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
    const items = entities.slice(0, filter.limit).map(toImage);
    return entities.length > filter.limit ? { items, next: items.at(-1)!.name } : { items };
  }
}
