import { M2Error, type Quota } from '@m2/contracts';
import type { Sql } from '@m2/service-kit';

interface Limits {
  bytes: number | null;
  disks: number | null;
  images: number | null;
}

interface Row extends Limits {
  used: Quota['used'];
}

/** What is used is counted by triggers, for projects with limits: else each new disk would count all others. */
const quota = `
  SELECT bytes::float8 AS bytes, disks, images,
    jsonb_build_object('bytes', used_bytes, 'disks', used_disks, 'images', used_images) AS used
  FROM quotas WHERE project = $1`;

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
  const [limits] = await sql.query<Row>(`${quota} FOR UPDATE`, [project]);
  if (!limits) return;
  const { used } = limits;
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
  const [row] = await sql.query<Row>(quota, [project]);
  if (!row) return { limits: { bytes: null, disks: null, images: null }, used: await usedBy(sql, project) };
  const { used, ...limits } = row;
  return { limits, used };
}

/** Sizes are counted as nodes see them: what a clone shares today it may have to itself tomorrow. */
async function usedBy(sql: Sql, project: string): Promise<Quota['used']> {
  const [used] = await sql.query<Quota['used']>('SELECT bytes::float8 AS bytes, disks, images FROM count_use($1)', [
    project,
  ]);
  return used!;
}
