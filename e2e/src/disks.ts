import type { Stage } from '@m2/cli';
import type { Operation } from '@m2/contracts';
import { readFile } from 'node:fs/promises';
import { type Member, succeeded } from './story.js';

type Body = { name: string; image?: string; disk?: string; tag?: string };

/** What a member does with disks and images: each returns when it is done. */
export const apiCallsOf = (stage: Stage, { client, project }: Member) => {
  const done = (accepted: Promise<Operation>) => succeeded(stage, client, accepted);
  const params = (disk: string) => ({ project, disk });
  return {
    create: (body: Body) => done(client.call('diskCreate', { params: { project }, body })),
    tag: (disk: string, name: string) => done(client.call('diskTag', { params: params(disk), body: { name } })),
    rollback: (disk: string, tag: string) => done(client.call('diskRollback', { params: params(disk), body: { tag } })),
    flatten: (disk: string) => done(client.call('diskFlatten', { params: params(disk) })),
    purge: (disk: string) => done(client.call('diskDelete', { params: params(disk), query: { purge: 'true' } })),
    snapshot: (disk: string, name: string) =>
      done(
        client.call('imageImport', { params: { project }, body: { name, source: { kind: 'disk' as const, disk } } }),
      ),
    deleteImage: (image: string) => done(client.call('imageDelete', { params: { project, image } })),
  };
};

/** What the lab's guest says of the file that its first boot leaves and its second one deletes, as it found it at its last boot. */
export async function firstBootsFile(stage: Stage, node: string): Promise<string | undefined> {
  const { serialLog } = stage.lab.nodes.find(({ name }) => name === node)!;
  const said = [...(await readFile(serialLog, 'utf8')).matchAll(/m2-node: the first boot's file is (\w+)/g)];
  return said.at(-1)?.[1];
}
