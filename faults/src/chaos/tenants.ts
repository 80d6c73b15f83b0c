import { M2Client } from '@m2/cli';
import type { TestInstallation } from '../installation.js';
import { sql } from '../observed-state.js';
import { same } from './same.js';

/** A member of one project. */
export interface Tenant {
  project: string;
  client: M2Client;
}

export async function makeTenant({ client, stage }: TestInstallation, project: string): Promise<Tenant> {
  const { value } = await client.call('tokenCreate', { body: { name: 'tenant', role: 'member', project } });
  return { project, client: new M2Client({ url: stage.running.url, token: value, attempts: 30 }) };
}

const own = (table: string, where: string) =>
  `(SELECT coalesce(json_agg(id), '[]') FROM ${table} WHERE project = :project AND ${where})`;
const query = `SELECT json_build_object(
  'disks', ${own('m2_image.disks', `state <> 'trashed'`)}, 'trash', ${own('m2_image.disks', `state = 'trashed'`)},
  'images', (SELECT coalesce(json_agg(id), '[]') FROM m2_image.images WHERE project = :project OR :project = ANY(shared_with)),
  'provisions', ${own('m2_gateway.provisions', 'true')}, 'operations', ${own('m2_gateway.operations', 'true')},
  'events', ${own('m2_gateway.events', 'true')})`;

/** Each tenant's lists have all that belongs to its project, and nothing else. */
export async function wrongLists(installation: TestInstallation, tenants: Tenant[]): Promise<string[]> {
  const found = await Promise.all(
    tenants.map(async ({ project, client }) => {
      const params = { project };
      const lists: Record<string, { items: { id: string }[] }> = {
        disks: await client.list('diskList', { params }),
        trash: await client.list('diskList', { params, query: { trashed: 'true' } }),
        images: await client.list('imageList', { params }),
        provisions: await client.list('provisionList', { params, query: { all: 'true' } }),
        operations: await client.list('operationList'),
        events: await client.list('eventList'),
      };
      const belonging = await sql<Record<string, string[]>>(
        installation,
        query.replaceAll(':project', `'${project}'::uuid`),
      );
      return Object.entries(lists).flatMap(([what, { items }]) =>
        same(
          `what the tenant of ${project} sees as its ${what}`,
          items.map(({ id }) => id),
          belonging[what]!,
        ),
      );
    }),
  );
  return found.flat();
}
