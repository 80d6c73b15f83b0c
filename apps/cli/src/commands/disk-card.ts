import type { Disk } from '@m2/contracts';
import type { App } from '../app.js';
import { formatBytes } from '../output/units.js';

export const diskCard = (app: App) => (disk: Disk) => {
  const { flattening } = disk;
  return app.card({
    name: disk.name,
    id: disk.id,
    state: disk.state,
    size: formatBytes(disk.sizeBytes),
    image: disk.image,
    ...(disk.fork && { 'forked from': `disk ${disk.fork.disk}, tag ${disk.fork.tag}` }),
    depth: disk.depth,
    ...(flattening && { flattening: flattening.error ? `failed: ${flattening.error.detail}` : 'goes on' }),
    volume: disk.volume,
    'held by': disk.holder,
    created: disk.createdAt,
    ...(disk.trashedAt !== null && { deleted: disk.trashedAt }),
  });
};
