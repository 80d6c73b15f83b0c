import type { Sql } from '@m2/service-kit';

/** A new volume name. A name is never used again. */
export async function newVolumeName(sql: Sql): Promise<string> {
  const [row] = await sql.query<{ name: string }>(
    `SELECT uid || 'img' || nextval('volume_numbers') AS name FROM installation`,
  );
  return row!.name;
}
