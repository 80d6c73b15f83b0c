import { M2Error } from '@m2/contracts';

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Pages of things whose identifier grows with time (UUIDv7), newest first: the cursor is the last identifier seen. */
export const newestFirst = {
  read(cursor: string | undefined): string | null {
    if (cursor === undefined) return null;
    if (!uuid.test(cursor)) throw new M2Error('request.invalid', 'query.cursor: is not a cursor of this list');
    return cursor;
  },

  /** `rows` holds one more than `limit` where there is a next page. */
  page<T extends { id: string }>(rows: T[], limit: number): { items: T[]; next?: string } {
    const items = rows.slice(0, limit);
    return rows.length > limit ? { items, next: items.at(-1)!.id } : { items };
  },
};
