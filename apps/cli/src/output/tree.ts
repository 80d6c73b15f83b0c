import { clean } from './style.js';

/** Draws what comes from what, one thing a line, those without a parent first. Things whose parent is not there stand by themselves. */
export function drawTree<Item extends { id: string; parent: string | null }>(
  items: Item[],
  label: (item: Item) => string,
): string {
  const ids = new Set(items.map(({ id }) => id));
  const children = Map.groupBy(items, ({ parent }) => (parent !== null && ids.has(parent) ? parent : null));
  const draw = (parent: string | null, before: string): string[] => {
    const here = children.get(parent) ?? [];
    return here.flatMap((item, index) => {
      const isLast = index === here.length - 1;
      const [branch, below] = parent === null ? ['', ''] : isLast ? ['└─ ', '   '] : ['├─ ', '│  '];
      return [`${before}${branch}${clean(label(item))}`, ...draw(item.id, before + below)];
    });
  };
  return draw(null, '')
    .map((line) => `${line}\n`)
    .join('');
}
