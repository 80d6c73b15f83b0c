import { imageTree, type Lineage, type RequestOf } from '@m2/contracts';
import { Answers, type Kit, KIT } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { ImageStore } from './image-store.js';

/** A larger tree is no use to anybody, and a query must end. */
const maxNodes = 1_000;

const shown = (of: string, kind: string, project = `${of}.project`) =>
  `'${kind}' AS kind, ${of}.id, ${of}.name, ${project} AS project, ${of}.size_bytes, ${of}.state, ${of}.created_at`;
/** What an image was copied from, as in the index of that. */
const imageParent = `CASE source->>'kind' WHEN 'image' THEN (source->>'image')::uuid
  WHEN 'disk' THEN coalesce((source->>'tag')::uuid, (source->>'disk')::uuid) END`;
const images = (where: string) =>
  `SELECT ${shown('i', 'image')}, ${imageParent} AS parent FROM images i WHERE ${where}`;
const disks = (parent: string, where: string) =>
  `SELECT ${shown('d', 'disk')}, ${parent} AS parent FROM disks d LEFT JOIN tags t ON t.id = d.parent_tag WHERE ${where}`;
const tags = (where: string) =>
  `SELECT ${shown('t', 'tag', 'd.project')}, d.id AS parent FROM tags t JOIN disks d ON d.id = t.disk WHERE ${where}`;

/**
 * The edges of the tree, from child to parent. The parent of a disk is the tag that it was forked from, else its image; of a tag, its disk;
 * of an image, what it was copied from. Found by an index in both directions: a tree is small, and there may be very many.
 */
const withId = (id: string) =>
  [
    images(`i.id = ${id}`),
    disks('CASE WHEN t.disk <> d.id THEN t.id ELSE d.image END', `d.id = ${id}`),
    tags(`t.id = ${id}`),
  ].join(' UNION ALL ');
const withParent = (parent: string) =>
  [
    images(`${imageParent} = ${parent}`),
    disks('t.id', `d.parent_tag = ${parent} AND t.disk <> d.id`),
    disks('d.image', `d.image = ${parent} AND (t.disk = d.id OR t.id IS NULL)`),
    tags(`t.disk = ${parent}`),
  ].join(' UNION ALL ');
/** `$1` is the image, `$2` the project. */
const seen = '(n.project = $2 OR n.id = $1)';

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
      `WITH RECURSIVE
         up AS (SELECT n.id, n.parent FROM (${withId('$1')}) n
                UNION SELECT n.id, n.parent FROM up, LATERAL (${withId('up.parent')}) n WHERE ${seen}),
         -- none of an ancestor: its own parent is gone, or is not for this project to see
         root AS (SELECT id FROM up WHERE NOT EXISTS (SELECT 1 FROM up above WHERE above.id = up.parent)),
         down AS (SELECT n.* FROM root, LATERAL (${withId('root.id')}) n
                  UNION SELECT n.* FROM down, LATERAL (${withParent('down.id')}) n WHERE ${seen})
       SELECT kind, id, name, CASE WHEN EXISTS (SELECT 1 FROM down p WHERE p.id = down.parent) THEN parent END AS parent,
         size_bytes::float8 AS "sizeBytes", state FROM down ORDER BY created_at, id LIMIT ${maxNodes}`,
      [id, project],
    );
    return { items };
  }
}
