import type { Dataset, Source } from './dataset.js';

/**
 * The state of a disk, from its datasets. `<volume>` is a clone. `ensureFlat` copies it to `<volume>.flat`, which is the disk as soon as it
 * has its size: one commit, with nothing to rename (a dataset with clones cannot be replaced by its copy). `<volume>` then stays for as
 * long as it has tags.
 */
export interface DiskState {
  /** The dataset with its data; undefined: there is no such disk. */
  current: Dataset | undefined;
  /** The clone that a flat disk was, with the tags from before. */
  keeper: Dataset | undefined;
  /** What an interrupted call left. */
  partial: Dataset[];
  tags: Map<string, Source>;
}

export function diskOf(path: string, datasets: Map<string, Dataset>): DiskState {
  const [clone, flat] = [datasets.get(path), datasets.get(`${path}.flat`)];
  const isFlat = flat?.sizeBytes !== undefined;
  const current = isFlat ? flat : clone?.sizeBytes === undefined ? undefined : clone;
  const keeper = isFlat ? clone : undefined;
  const partial = [clone, flat].filter((it): it is Dataset => it !== undefined && it !== current && it !== keeper);
  return { current, keeper, partial, tags: new Map([...tagsOf(keeper), ...tagsOf(current)]) };
}

function tagsOf(dataset: Dataset | undefined): [tag: string, source: Source][] {
  if (!dataset) return [];
  return [...dataset.snapshots].flatMap(([tag, sizeBytes]) =>
    isTag(tag) && sizeBytes !== undefined ? [[tag, { snapshot: `${dataset.path}@${tag}`, sizeBytes }]] : [],
  );
}

/** Whether it keeps nothing but what one call or one reader needed. */
export function hasNoTags(dataset: Dataset): boolean {
  return tagsOf(dataset).length === 0;
}

function isTag(snapshot: string): boolean {
  return /^[a-z0-9]{1,40}$/.test(snapshot);
}
