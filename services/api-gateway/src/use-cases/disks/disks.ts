import { diskList, diskShow, diskTransfer, M2Error, useCases } from '@m2/contracts';
import type { DiskDeleteInput } from '../../sagas/disk-delete.js';
import type { DiskFlattenInput } from '../../sagas/disk-flatten.js';
import type { DiskRestoreInput } from '../../sagas/disk-restore.js';
import type { DiskUpdateInput } from '../../sagas/disk-update.js';
import { ask } from '../ask.js';
import { implement } from '../use-case.js';
import { anyDisk, readyDisk, refuseHeld, refuseTakenDisk, refuseUsedDisk, tagOf, trashedDisk } from './find-disk.js';

export const listDisks = implement(useCases.diskList, ({ kit }, { project }, page) =>
  ask(kit, diskList, { ...page, project: project.id }),
);

export const showDisk = implement(useCases.diskShow, ({ kit }, { project }, { disk }) =>
  ask(kit, diskShow, { project: project.id, disk }),
);

export const updateDisk = implement(
  useCases.diskUpdate,
  async ({ kit, runner }, request, { disk: which, name, sizeBytes }) => {
    const disk = await readyDisk(kit, request.project, which);
    if (sizeBytes !== undefined && sizeBytes < disk.sizeBytes)
      throw new M2Error('disk.too_small', `The disk "${disk.name}" has ${disk.sizeBytes} bytes, and does not shrink`);
    if (sizeBytes !== undefined) refuseHeld(disk);
    if (name !== undefined && name !== disk.name) await refuseTakenDisk(kit, request.project, name);
    const input: DiskUpdateInput = { disk: disk.id, name, sizeBytes };
    return runner.begin(request, 'disk.update', input, { disk: disk.id });
  },
);

export const deleteDisk = implement(useCases.diskDelete, async ({ kit, runner }, request, { disk: which, purge }) => {
  // What is in the trash can still be removed for good.
  const disk = purge
    ? await anyDisk(kit, request.project, which)
    : await ask(kit, diskShow, { project: request.project.id, disk: which });
  refuseHeld(disk);
  await refuseUsedDisk(kit, request.project.id, disk);
  const input: DiskDeleteInput = { disk: disk.id, purge };
  return runner.begin(request, 'disk.delete', input, { disk: disk.id });
});

export const restoreDisk = implement(useCases.diskRestore, async ({ kit, runner }, request, { disk: which, name }) => {
  const disk = await trashedDisk(kit, request.project, which);
  await refuseTakenDisk(kit, request.project, name ?? disk.name);
  const input: DiskRestoreInput = { disk: disk.id, name };
  return runner.begin(request, 'disk.restore', input, { disk: disk.id });
});

export const flattenDisk = implement(useCases.diskFlatten, async ({ kit, runner }, request, { disk: which }) => {
  const disk = await readyDisk(kit, request.project, which);
  const input: DiskFlattenInput = { disk: disk.id };
  return runner.begin(request, 'disk.flatten', input, { disk: disk.id });
});

export const openDiskContent = implement(
  useCases.diskContent,
  async ({ kit }, { project }, { disk: which, format, ...tags }) => {
    const disk = await readyDisk(kit, project, which);
    const tag = tags.tag === undefined ? undefined : await tagOf(kit, disk, tags.tag);
    const since = tags.since === undefined ? undefined : await tagOf(kit, disk, tags.since);
    // A tag stands still while a node writes to its disk; the disk itself does not.
    if (!tag) refuseHeld(disk);
    return ask(kit, diskTransfer, {
      project: project.id,
      disk: disk.id,
      format,
      ...(tag && { tag: tag.id }),
      ...(since && { since: since.id }),
    });
  },
);
