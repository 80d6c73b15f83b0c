import type { Sql } from '@m2/service-kit';

/** A volume name that was never used before, and never will be again. */
export async function newVolumeName(sql: Sql): Promise<string> {
  const [row] = await sql.query<{ name: string }>(
    `SELECT uid || 'img' || nextval('volume_numbers') AS name FROM installation`,
  );
  return row!.name;
}
