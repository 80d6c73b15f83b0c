import type { M2Client, Stage } from '@m2/cli';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The files below a directory that hold `text`, deleted rows of databases and old log lines included. */
export async function filesWith(dir: string, text: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const found: string[] = [];
  // One after the other: disks are among them, and each is read whole.
  for (const entry of entries.filter((one) => one.isFile())) {
    const path = join(entry.parentPath, entry.name);
    // PostgreSQL may remove a file meanwhile.
    const content = await readFile(path).catch(() => Buffer.alloc(0));
    if (content.includes(text)) found.push(path);
  }
  return found;
}

/** Everything that the API answers to an admin, as JSON. */
export async function allAnswers({ client, project, nodes }: Stage): Promise<string> {
  const params = { project };
  const lists = await Promise.all([
    client.list('projectList'),
    client.list('tokenList'),
    client.list('imageList', { params }),
    client.list('diskList', { params }),
    client.list('nodeList'),
    client.list('provisionList', { params, query: { all: 'true' } }),
    client.list('operationList'),
    client.list('eventList'),
  ]);
  const one = await Promise.all([
    ...nodes.map(({ name: node }) => client.call('nodeShow', { params: { node } })),
    ...(await shown(client, project)),
  ]);
  return JSON.stringify([lists, one]);
}

/** Each provision and its operation: a single answer may hold more than a list does. */
async function shown(client: M2Client, project: string): Promise<Promise<unknown>[]> {
  const { items } = await client.list('provisionList', { params: { project }, query: { all: 'true' } });
  return items.flatMap(({ id, operation }) => [
    client.call('provisionShow', { params: { project, id } }),
    client.call('operationShow', { params: { id: operation } }),
  ]);
}
