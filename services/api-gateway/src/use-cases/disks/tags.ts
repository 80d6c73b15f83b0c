import { diskShow, diskTags, M2Error, useCases } from '@m2/contracts';
import { v7 as uuidv7 } from 'uuid';
import type { DiskRollbackInput } from '../../sagas/disk-rollback.js';
import type { DiskTagInput } from '../../sagas/disk-tag.js';
import type { DiskUntagInput } from '../../sagas/disk-untag.js';
import { ask } from '../ask.js';
import { implement } from '../use-case.js';
import { readyDisk, refuseHeld, tagOf } from './find-disk.js';

export const listTags = implement(useCases.diskTags, async ({ kit }, { project }, { disk, ...page }) => {
  const scope = { project: project.id };
  const { id } = await ask(kit, diskShow, { ...scope, disk });
  return ask(kit, diskTags, { ...page, ...scope, disk: id });
});

export const tagDisk = implement(useCases.diskTag, async ({ kit, runner }, request, { disk: which, name }) => {
  const disk = await readyDisk(kit, request.project, which);
  const taken = await ask(kit, diskTags, { project: request.project.id, disk: disk.id, name, limit: 1 });
  if (taken.items.length > 0) throw new M2Error('tag.exists', `The disk "${disk.name}" has a tag "${name}" already`);
  const input: DiskTagInput = { tag: uuidv7(), disk: disk.id, name };
  return runner.begin(request, 'disk.tag', input, { disk: disk.id, tag: input.tag });
});

export const untagDisk = implement(useCases.diskUntag, async ({ kit, runner }, request, { disk: which, tag }) => {
  const disk = await readyDisk(kit, request.project, which);
  const { id } = await tagOf(kit, disk, tag);
  const input: DiskUntagInput = { tag: id, disk: disk.id };
  return runner.begin(request, 'disk.untag', input, { disk: disk.id, tag: id });
});

export const rollBackDisk = implement(useCases.diskRollback, async ({ kit, runner }, request, { disk: which, tag }) => {
  const disk = await readyDisk(kit, request.project, which);
  const { id } = await tagOf(kit, disk, tag);
  refuseHeld(disk);
  const input: DiskRollbackInput = { disk: disk.id, tag: id };
  return runner.begin(request, 'disk.rollback', input, { disk: disk.id, tag: id });
});
