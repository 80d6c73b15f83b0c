import { expect, it } from 'vitest';
import { apiCallsOf } from '../api-calls.js';
import { eventually, type TestInstallation, succeeded } from '../installation.js';
import { sql } from '../observed-state.js';

/** What happened is kept when the project is gone: events, and the operations with what they were asked for. */
const history = /^m2_\w+\.(m2_outbox|m2_inbox|m2_effects|events|operations|operation_steps|idempotency_keys)$/;

/** Every table of every service that names something, wherever in its rows. */
async function tablesWith(installation: TestInstallation, id: string): Promise<string[]> {
  const names = await sql<string[]>(
    installation,
    `SELECT coalesce(json_agg(format('%I.%I', table_schema, table_name)), '[]') FROM information_schema.tables
     WHERE table_schema LIKE 'm2\\_%' AND table_type = 'BASE TABLE'`,
  );
  const each = names.map(
    (name) => `SELECT '${name}' AS name WHERE EXISTS (SELECT FROM ${name} t WHERE t::text LIKE '%${id}%')`,
  );
  const found = await sql<string[]>(
    installation,
    `SELECT coalesce(json_agg(name), '[]') FROM (${each.join(' UNION ALL ')}) u`,
  );
  return found.filter((name) => !history.test(name)).sort();
}

export function describeProjects(started: () => TestInstallation): void {
  it('a project that is deleted is named nowhere any more but in what happened', async () => {
    const installation = started();
    const { client, stage } = installation;
    const own = (await client.call('projectCreate', { body: { name: 'short-lived' } })).id;
    const api = apiCallsOf(installation);
    const params = { project: own };
    await client.call('quotaSet', { params, body: { bytes: null, disks: 5, images: 5 } });
    await client.call('tokenCreate', { body: { name: 'short-lived', role: 'member', project: own } });
    const bmc = { address: '192.0.2.1', user: 'admin', password: 'secret' };
    const nics = [{ label: 'eth0', mac: '52:54:00:99:99:01' }];
    await client.call('nodeRegister', { body: { name: 'short-lived', nics, bmc, project: own } });
    const { about } = await succeeded(installation, await api.importImage('shared'));
    await succeeded(installation, await api.updateImage(about['image']!, { sharedWith: [own] }));
    const body = { node: 'node-1', image: 'shared', diskName: 'short-lived', waitFor: 'ready' as const };
    const provision = await succeeded(installation, await client.call('provisionCreate', { params, body }));
    expect(await tablesWith(installation, own)).toEqual([
      'm2_boot.boot_configs',
      'm2_gateway.projects',
      'm2_gateway.provisions',
      'm2_gateway.tokens',
      'm2_hil.nodes',
      'm2_image.disks',
      'm2_image.images',
      'm2_image.quotas',
      'm2_iscsi.exports',
    ]);

    const remove = () => client.call('projectDelete', { params });
    await expect(remove()).rejects.toMatchObject({ code: 'project.not_empty' });
    const id = provision.about['provision']!;
    await succeeded(
      installation,
      await client.call('provisionDelete', { params: { ...params, id }, query: { disk: 'delete' } }),
    );
    await expect(remove()).rejects.toMatchObject({ code: 'project.not_empty' });
    await client.call('nodeRemove', { params: { node: 'short-lived' } });
    await remove();
    await eventually('nothing to name it', async () =>
      (await tablesWith(installation, own)).length === 0 ? true : undefined,
    );
    expect(
      (await client.call('imageShow', { params: { project: stage.project, image: 'shared' } })).sharedWith,
    ).toEqual([]);
    await succeeded(installation, await api.deleteImage('shared'));
  });
}
