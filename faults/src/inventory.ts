import type { TestInstallation } from './installation.js';
import { observe, sql, type ObservedState } from './observed-state.js';

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

export interface Inventory {
  observed: ObservedState;
  counts: Record<string, number>;
}

/** Everything that exists, to compare with: a refused request must have changed nothing. */
export async function takeInventory(installation: TestInstallation): Promise<Inventory> {
  const counts = tables.map((table) => `'${table}', (SELECT count(*) FROM ${table})`).join(', ');
  const [observed, counted] = await Promise.all([
    observe(installation),
    sql<Record<string, number>>(installation, `SELECT json_build_object(${counts})`),
  ]);
  return { observed, counts: counted };
}
