import type { Image, StoredSource } from '@m2/contracts';

/** A row of the table. */
export type ImageRow = Omit<Image, 'createdAt' | 'parent'> & { volume: string; source: StoredSource; createdAt: Date };

export const imageColumns = `id, project, name, state, volume, source, format, size_bytes::float8 AS "sizeBytes", sha256, visibility,
  shared_with AS "sharedWith", metadata, progress, error, created_at AS "createdAt"`;

/** SQL: the ways in which project `$n` may use an image that it does not own. */
export const visibleToOthers = (n: number): string[] => [
  `state = 'ready' AND visibility = 'public'`,
  `state = 'ready' AND visibility = 'shared' AND shared_with @> ARRAY[$${n}::uuid]`,
];

/** SQL: whether it may. */
export const visibleTo = (n: number): string => `(${visibleToOthers(n).join(' OR ')})`;

/** The image as a project sees it. Others do not see where it came from, nor with whom it is shared. */
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
