import type { M2Client } from '@m2/cli';
import { execFile } from 'node:child_process';
import { copyFile, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export const filled = { disks: 10_000, exports: 1_000, operations: 300_000 };
/** Above every number that the benchmark's own volumes get. */
const firstVolume = 10_000_000;

/** What M2 has after years, as far as nobody has to be asked for it: ended operations with their steps and events, and disks. */
export async function fillHistory(state: string, client: M2Client, project: string): Promise<void> {
  const sql = async (text: string): Promise<string> => {
    const password = (await readFile(join(state, 'secrets/database-m2_admin'), 'utf8')).trim();
    const args = [
      '-X',
      '-q',
      '-At',
      '-v',
      'ON_ERROR_STOP=1',
      '-h',
      join(state, 'postgres'),
      '-U',
      'm2_admin',
      '-d',
      'm2',
    ];
    return (await run('psql', [...args, '-c', text], { env: { ...process.env, PGPASSWORD: password } })).stdout.trim();
  };
  const at = `now() - interval '1 day' - n * interval '1 second'`;
  const id = (kind: string) => `('00000000-0000-70${kind}-8000-' || lpad(n::text, 12, '0'))::uuid`;
  const all = `generate_series(1, ${filled.operations}) n`;
  await sql(`
    SET search_path = m2_gateway;
    INSERT INTO operations (id, project, kind, version, state, input, about, created_by, token, created_at, started_at, ended_at)
      SELECT ${id('01')}, '${project}', (ARRAY['provision', 'deprovision', 'disk.create'])[n % 3 + 1], 1,
        CASE WHEN n % 100 = 0 THEN 'failed' ELSE 'succeeded' END, '{}', '{}', 'fill', ${id('01')}, ${at}, ${at}, ${at} FROM ${all};
    INSERT INTO operation_steps (operation, position, name, state, started_at, ended_at)
      SELECT ${id('01')}, step, 'step-' || step, 'done', ${at}, ${at} FROM ${all}, generate_series(1, 4) step;
    INSERT INTO events (id, type, project, time, data)
      SELECT ${id('02')}, (ARRAY['gateway.operation.started', 'gateway.operation.ended', 'image.disk.created'])[n % 3 + 1], '${project}',
        ${at}, '{}' FROM ${all};
    ANALYZE operations, operation_steps, events;`);
  // Files as a disk of M2 has them, so one is made, and copied.
  const params = { project };
  await client.call('diskCreate', { params, body: { name: 'pattern', image: 'lab' } });
  const pattern = await poll(async () => {
    const disk = await client.call('diskShow', { params: { project, disk: 'pattern' } }).catch(() => undefined);
    return disk?.state === 'ready' ? disk : undefined;
  });
  const volumes = join(state, 'storage/volumes');
  const files = await readdir(volumes);
  const file = files.find((name) => name.startsWith(`${pattern.volume}.`))!;
  const uid = pattern.volume.split('img')[0]!;
  for (let n = 1; n <= filled.disks; n++)
    await copyFile(join(volumes, file), join(volumes, file.replace(pattern.volume, `${uid}img${firstVolume + n}`)));
  await sql(`
    SET search_path = m2_image;
    INSERT INTO disks (id, project, name, state, volume, image, size_bytes)
      SELECT ${id('03')}, '${project}', 'filled-' || n, 'ready', '${uid}img' || (${firstVolume} + n), '${pattern.image}', ${pattern.sizeBytes}
      FROM generate_series(1, ${filled.disks}) n;
    ANALYZE disks;`);
  // A list of all volumes makes the storage look at what is there.
  await client.call('storageCheck', {});
}

async function poll<T>(look: () => Promise<T | undefined>): Promise<T> {
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
