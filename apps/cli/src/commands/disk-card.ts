import type { Disk } from '@m2/contracts';
import type { App } from '../app.js';
import { amountOf } from '../output/progress.js';
import { formatBytes } from '../output/units.js';
import { diskName, imageName, provisionNode, tagName } from './names.js';

/** One disk, for people: with the names of what it comes from and of what holds it. */
export async function diskCard(app: App, disk: Disk): Promise<string> {
  const { flattening, fork, holder, image, project } = disk;
  const [imageIs, forkIs, heldBy] = await Promise.all([
    image && imageName(app, project, image),
    fork && forkOf(app, project, fork),
    holder && holderOf(app, project, holder),
  ]);
  return app.card({
    name: disk.name,
    id: disk.id,
    state: disk.state,
    size: formatBytes(disk.sizeBytes),
    image: imageIs,
    ...(forkIs && { 'forked from': forkIs }),
    depth: disk.depth,
    ...(flattening && { flattening: howFar(flattening) }),
    volume: disk.volume,
    'held by': heldBy,
    created: disk.createdAt,
    ...(disk.trashedAt !== null && { deleted: disk.trashedAt }),
  });
}

function howFar({ error, progress }: NonNullable<Disk['flattening']>): string {
  if (error) return `failed: ${error.detail}`;
  return progress ? `goes on: ${amountOf(progress.done, progress.total)}` : 'waits for its turn';
}

async function forkOf(app: App, project: string, { disk, tag }: { disk: string; tag: string }): Promise<string> {
  const [diskIs, tagIs] = await Promise.all([diskName(app, project, disk), tagName(app, project, disk, tag)]);
  return `disk ${diskIs}, tag ${tagIs}`;
}

async function holderOf(app: App, project: string, provision: string): Promise<string> {
  const node = await provisionNode(app, project, provision);
  return node === provision ? `provision ${provision}` : `${node} (provision ${provision})`;
}
