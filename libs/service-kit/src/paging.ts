import { M2Error } from '@m2/contracts';

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** A message may have a mebibyte, and a page is not all of it. */
const pageBytes = 512 * 1024;

/**
 * One page: at most `limit` items, and no more than a message has room for, but one at least. `rows` holds one more than `limit` where there is
 * a next page; `cursorOf` says where that goes on after a row.
 */
export function pageWithin<Row, Item>(
  rows: Row[],
  limit: number,
  toItem: (row: Row) => Item,
  cursorOf: (row: Row) => string,
): { items: Item[]; next?: string } {
  const items: Item[] = [];
  let bytes = 0;
  for (const row of rows.slice(0, limit)) {
    const item = toItem(row);
    bytes += Buffer.byteLength(JSON.stringify(item));
    if (items.length > 0 && bytes > pageBytes) break;
    items.push(item);
  }
  return rows.length > items.length ? { items, next: cursorOf(rows[items.length - 1]!) } : { items };
}

/** Pages of things whose identifier grows with time (UUIDv7), newest first: the cursor is the last identifier seen. */
export const newestFirst = {
  read(cursor: string | undefined): string | null {
    if (cursor === undefined) return null;
    if (!uuid.test(cursor)) throw new M2Error('request.invalid', 'cursor: is not a cursor of this list');
    return cursor;
  },

  /** `rows` holds one more than `limit` where there is a next page. */
  page<T extends { id: string }>(rows: T[], limit: number): { items: T[]; next?: string } {
    const items = rows.slice(0, limit);
    return rows.length > limit ? { items, next: items.at(-1)!.id } : { items };
  },
};
