import { imageTree, type Lineage, type RequestOf } from '@m2/contracts';
import { Answers, type Kit, KIT } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { ImageStore } from './image-store.js';

/** A larger tree is no use to anybody, and a query must end. */
const maxNodes = 1_000;

/**
 * All edges of the tree, from child to parent. The parent of a disk is the tag that it was forked from, else its image; of a tag, its disk;
 * of an image, what it was copied from. `created_at` puts parents before children.
 */
const nodes = `
  SELECT 'image' AS kind, id, name, project, size_bytes, state, created_at,
    CASE source->>'kind' WHEN 'image' THEN (source->>'image')::uuid
      WHEN 'disk' THEN coalesce((source->>'tag')::uuid, (source->>'disk')::uuid) END AS parent FROM images
  UNION ALL
  SELECT 'disk', d.id, d.name, d.project, d.size_bytes, d.state, d.created_at,
    CASE WHEN t.disk <> d.id THEN t.id ELSE d.image END FROM disks d LEFT JOIN tags t ON t.id = d.parent_tag
  UNION ALL
  SELECT 'tag', t.id, t.name, d.project, t.size_bytes, t.state, t.created_at, d.id FROM tags t JOIN disks d ON d.id = t.disk`;

@Controller()
export class LineageHandler {
  constructor(
    @Inject(KIT) private readonly kit: Kit,
    @Inject(ImageStore) private readonly images: ImageStore,
  ) {}

  /**
   * From the image up to its oldest ancestor, and down to everything that was made from that. A project sees what it owns, and the image
   * itself.
   */
  @Answers(imageTree)
  async tree({ image, project }: RequestOf<typeof imageTree>): Promise<{ items: Lineage }> {
    const { id } = await this.images.row(image, project);
    const items = await this.kit.database.query<Lineage[number]>(
      `WITH RECURSIVE nodes AS MATERIALIZED (SELECT * FROM (${nodes}) n WHERE project = $2 OR id = $1),
         up AS (SELECT id, parent FROM nodes WHERE id = $1
                UNION SELECT n.id, n.parent FROM nodes n JOIN up ON n.id = up.parent),
         root AS (SELECT id FROM up WHERE NOT EXISTS (SELECT 1 FROM nodes n WHERE n.id = up.parent)),
         down AS (SELECT n.* FROM nodes n JOIN root ON n.id = root.id
                  UNION SELECT n.* FROM nodes n JOIN down ON n.parent = down.id)
       SELECT kind, id, name, CASE WHEN EXISTS (SELECT 1 FROM down p WHERE p.id = down.parent) THEN parent END AS parent,
         size_bytes::float8 AS "sizeBytes", state FROM down ORDER BY created_at, id LIMIT ${maxNodes}`,
      [id, project],
    );
    return { items };
  }
}
