import { M2Error, type Quota } from '@m2/contracts';
import type { Sql } from '@m2/service-kit';

interface Limits {
  bytes: number | null;
  disks: number | null;
  images: number | null;
}

const limitsOf = 'SELECT bytes::float8 AS bytes, disks, images FROM quotas WHERE project = $1';

/**
 * Refuses what exceeds the project's quota. Call it in the transaction that records the new thing, before it is recorded: the lock on the
 * quota's row puts requests in line, so that two that fit alone but not together do not both pass. A project without limits costs one
 * query. Throws M2Error `quota.exceeded`.
 */
export async function assertQuota(
  sql: Sql,
  project: string,
  more: { bytes?: number; disks?: number; images?: number },
): Promise<void> {
  const [limits] = await sql.query<Limits>(`${limitsOf} FOR UPDATE`, [project]);
  if (!limits) return;
  const used = await usedBy(sql, project);
  for (const what of ['bytes', 'disks', 'images'] as const) {
    const limit = limits[what];
    const wanted = more[what] ?? 0;
    if (limit === null || wanted === 0 || used[what] + wanted <= limit) continue;
    throw new M2Error(
      'quota.exceeded',
      `The project has ${used[what]} of ${limit} ${what}, and this needs ${wanted} more`,
    );
  }
}

export async function quotaOf(sql: Sql, project: string): Promise<Quota> {
  const [limits] = await sql.query<Limits>(limitsOf, [project]);
  return { limits: limits ?? { bytes: null, disks: null, images: null }, used: await usedBy(sql, project) };
}

/** Sizes are counted as nodes see them: what a clone shares today it may have to itself tomorrow. */
async function usedBy(sql: Sql, project: string): Promise<Quota['used']> {
  const [used] = await sql.query<Quota['used']>(
    `SELECT (coalesce(i.bytes, 0) + coalesce(d.bytes, 0))::float8 AS bytes, d.count::int AS disks, i.count::int AS images
     FROM (SELECT sum(size_bytes) AS bytes, count(*) FROM images WHERE project = $1) i,
          (SELECT sum(coalesce(grows_to, size_bytes)) AS bytes, count(*) FROM disks WHERE project = $1) d`,
    [project],
  );
  return used!;
}
