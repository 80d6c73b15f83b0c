import { diskShow, diskTags, M2Error, type Project, routes } from '@m2/contracts';
import { type Kit, KIT } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { ask } from '../door/ask.js';
import { By, Given, In, type Input, Serve } from '../door/serve.js';
import type { Commission } from '../operations/commission.js';
import { Runner } from '@m2/saga';
import type { DiskRollbackInput } from '../sagas/disk-rollback.js';
import type { DiskTagInput } from '../sagas/disk-tag.js';
import type { DiskUntagInput } from '../sagas/disk-untag.js';
import { readyDisk, refuseHeld, tagOf } from './find-disk.js';

/** Moments of a disk: kept, gone back to, forgotten. */
@Controller()
export class TagsController {
  constructor(
    @Inject(KIT) private readonly kit: Kit,
    @Inject(Runner) private readonly runner: Runner,
  ) {}

  @Serve(routes.diskTags)
  async list(@Given(routes.diskTags) { params, query }: Input<typeof routes.diskTags>, @In() project: Project) {
    const scope = { project: project.id };
    const { id } = await ask(this.kit, diskShow, { ...scope, disk: params.disk });
    return ask(this.kit, diskTags, { ...query, ...scope, disk: id });
  }

  @Serve(routes.diskTag)
  async tag(@Given(routes.diskTag) { params, body }: Input<typeof routes.diskTag>, @By() by: Commission) {
    const disk = await readyDisk(this.kit, by.project, params.disk);
    const taken = await ask(this.kit, diskTags, { project: by.project.id, disk: disk.id, name: body.name, limit: 1 });
    if (taken.items.length > 0)
      throw new M2Error('tag.exists', `The disk "${disk.name}" has a tag "${body.name}" already`);
    const input: DiskTagInput = { tag: uuidv7(), disk: disk.id, name: body.name };
    return this.runner.begin(by, 'disk.tag', input, { disk: disk.id, tag: input.tag });
  }

  @Serve(routes.diskUntag)
  async untag(@Given(routes.diskUntag) { params }: Input<typeof routes.diskUntag>, @By() by: Commission) {
    const disk = await readyDisk(this.kit, by.project, params.disk);
    const { id } = await tagOf(this.kit, disk, params.tag);
    const input: DiskUntagInput = { tag: id, disk: disk.id };
    return this.runner.begin(by, 'disk.untag', input, { disk: disk.id, tag: id });
  }

  @Serve(routes.diskRollback)
  async rollback(
    @Given(routes.diskRollback) { params, body }: Input<typeof routes.diskRollback>,
    @By() by: Commission,
  ) {
    const disk = await readyDisk(this.kit, by.project, params.disk);
    const { id } = await tagOf(this.kit, disk, body.tag);
    refuseHeld(disk);
    const input: DiskRollbackInput = { disk: disk.id, tag: id };
    return this.runner.begin(by, 'disk.rollback', input, { disk: disk.id, tag: id });
  }
}
