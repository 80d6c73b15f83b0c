import type { Image, StoredSource } from '@m2/contracts';

/** An image as the table has it. */
export type ImageRow = Omit<Image, 'createdAt' | 'parent'> & { volume: string; source: StoredSource; createdAt: Date };

export const imageColumns = `id, project, name, state, volume, source, format, size_bytes::float8 AS "sizeBytes", sha256, visibility,
  shared_with AS "sharedWith", metadata, progress, error, created_at AS "createdAt"`;

/** Whether the project in `$n` may use an image of which it is not the owner. */
export const visibleTo = (n: number) =>
  `(state = 'ready' AND (visibility = 'public' OR (visibility = 'shared' AND $${n} = ANY (shared_with))))`;

/** The image as a project sees it: where it came from, and with whom its owner shares it, is the owner's business. */
export const toImage = (
  { volume: _volume, source, createdAt, sharedWith, ...image }: ImageRow,
  seenBy: string,
): Image => ({
  ...image,
  sharedWith: image.project === seenBy ? sharedWith : [],
  parent: image.project === seenBy ? parentOf(source) : null,
  createdAt: createdAt.toISOString(),
});

function parentOf(source: StoredSource): Image['parent'] {
  if (source.kind === 'image') return { kind: 'image', id: source.image };
  if (source.kind === 'disk') return { kind: 'disk', id: source.disk };
  return null;
}
