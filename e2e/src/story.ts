import { M2Client, type Stage, untilEnded } from '@m2/cli';
import type { Disk, Operation, Provision } from '@m2/contracts';
import { readFile } from 'node:fs/promises';
import { expect } from 'vitest';

/** A member of one project: a client, and its token. */
export interface Member {
  client: M2Client;
  project: string;
  token: string;
}

export const imageName = 'lab';

/** Makes a member's token for a project of the stage; the project is made when it is not the stage's own. */
export async function memberOf(stage: Stage, project: string): Promise<Member> {
  if (project !== stage.project) await stage.client.call('projectCreate', { body: { name: project } });
  const body = { name: `member-of-${project}`, role: 'member' as const, project };
  const { value: token } = await stage.client.call('tokenCreate', { body });
  return { client: new M2Client({ url: stage.running.url, token }), project, token };
}

/** Waits until an operation succeeds. When it does not, fails with its error and the ends of the nodes' consoles. */
export async function succeeded(stage: Stage, client: M2Client, accepted: Promise<Operation>): Promise<Operation> {
  const operation = await untilEnded(client, (await accepted).id);
  if (operation.state !== 'succeeded') {
    const consoles = stage.lab.nodes.map(async ({ name, serialLog }) => {
      const text = await readFile(serialLog, 'utf8');
      return `console of ${name}: ${text.slice(-1_500)}`;
    });
    const what = `${operation.kind} ${operation.state}: ${JSON.stringify(operation.error ?? operation.attention)}`;
    expect.fail([what, ...(await Promise.all(consoles))].join('\n'));
  }
  return operation;
}

/** Imports the stage's image into the member's project. */
export async function importImage(stage: Stage, { client, project }: Omit<Member, 'token'>): Promise<void> {
  const { path, sha256 } = stage.image;
  const body = { name: imageName, source: { kind: 'file' as const, path }, sha256 };
  await succeeded(stage, client, client.call('imageImport', { params: { project }, body }));
}

/** Boots a node, and returns the provision when the node has phoned home. */
export async function boot(
  stage: Stage,
  { client, project }: Member,
  body: { node: string; image?: string; diskName?: string; disk?: string },
): Promise<Provision> {
  const accepted = client.call('provisionCreate', { params: { project }, body: { ...body, waitFor: 'booted' } });
  const { about } = await succeeded(stage, client, accepted);
  return client.call('provisionShow', { params: { project, id: about['provision'] as string } });
}

/** Takes a provision back; the disk is kept unless told otherwise. */
export async function takeBack(
  stage: Stage,
  { client, project }: Member,
  { id }: Provision,
  disk: 'keep' | 'delete' = 'keep',
): Promise<void> {
  await succeeded(stage, client, client.call('provisionDelete', { params: { project, id }, query: { disk } }));
}

export const diskNamed = ({ client, project }: Member, disk: string): Promise<Disk> =>
  client.call('diskShow', { params: { project, disk } });
