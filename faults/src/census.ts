import type { Scene } from './scene.js';
import { lookAround, sql, type Things } from './things.js';

const tables = [
  'm2_gateway.projects',
  'm2_gateway.tokens',
  'm2_gateway.operations',
  'm2_gateway.provisions',
  'm2_image.images',
  'm2_image.disks',
  'm2_iscsi.exports',
  'm2_boot.boot_configs',
  'm2_hil.nodes',
  'm2_hil.nics',
];

export interface Census {
  things: Things;
  counts: Record<string, number>;
}

/** Everything that exists, to compare with: a refused request must have changed nothing. */
export async function census(scene: Scene): Promise<Census> {
  const counts = tables.map((table) => `'${table}', (SELECT count(*) FROM ${table})`).join(', ');
  const [things, counted] = await Promise.all([
    lookAround(scene),
    sql<Record<string, number>>(scene, `SELECT json_build_object(${counts})`),
  ]);
  return { things, counts: counted };
}
