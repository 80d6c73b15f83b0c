import { describe, expect, it } from 'vitest';
import { pageWithin } from './paging.js';

const rows = (many: number, length = 1) =>
  Array.from({ length: many }, (_, at) => ({ name: `n${String(at).padStart(4, '0')}`, text: 'x'.repeat(length) }));
const page = (from: ReturnType<typeof rows>, limit: number) =>
  pageWithin(
    from,
    limit,
    (row) => row,
    (row) => row.name,
  );

describe('a page', () => {
  it('is the last one where no row is over', () => {
    expect(page([], 3)).toEqual({ items: [] });
    expect(page(rows(3), 3)).toEqual({ items: rows(3) });
  });

  it('goes on after its last item', () => {
    expect(page(rows(4), 3)).toEqual({ items: rows(3), next: 'n0002' });
  });

  it('ends before it is larger than a message, and all pages together are all rows', () => {
    const all = rows(500, 40_000);
    const seen: string[] = [];
    for (let at = 0; at < all.length;) {
      const { items, next } = page(all.slice(at, at + 501), 500);
      expect(JSON.stringify({ items, next }).length).toBeLessThan(1024 * 1024);
      seen.push(...items.map(({ name }) => name));
      at += items.length;
      expect(next).toBe(at < all.length ? items.at(-1)!.name : undefined);
    }
    expect(seen).toEqual(all.map(({ name }) => name));
  });

  it('holds one item, however large', () => {
    expect(page(rows(2, 2_000_000), 2).items).toHaveLength(1);
  });
});
