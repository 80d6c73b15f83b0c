import { diskList, diskShow, M2Error, type Project, routes } from '@m2/contracts';
import { type Kit, KIT } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { ask } from '../door/ask.js';
import { By, Given, In, type Input, Serve } from '../door/serve.js';
import type { Commission } from '../operations/commission.js';
import { readyImage } from '../images/find-image.js';
import { Runner } from '@m2/saga';
import type { DiskCreateInput } from '../sagas/disk-create.js';
import type { DiskDeleteInput } from '../sagas/disk-delete.js';
import type { DiskFlattenInput } from '../sagas/disk-flatten.js';
import type { DiskRestoreInput } from '../sagas/disk-restore.js';
import type { DiskUpdateInput } from '../sagas/disk-update.js';
import { anyDisk, readyDisk, refuseHeld, refuseTakenDisk, tagOf, trashedDisk } from './find-disk.js';

type Origin = { from: DiskCreateInput['from']; sizeBytes: number | null };

@Controller()
export class DisksController {
  constructor(
    @Inject(KIT) private readonly kit: Kit,
    @Inject(Runner) private readonly runner: Runner,
  ) {}

  @Serve(routes.diskList)
  list(@Given(routes.diskList) { query }: Input<typeof routes.diskList>, @In() project: Project) {
    return ask(this.kit, diskList, { ...query, project: project.id });
  }

  @Serve(routes.diskShow)
  show(@Given(routes.diskShow) { params }: Input<typeof routes.diskShow>, @In() project: Project) {
    return ask(this.kit, diskShow, { project: project.id, disk: params.disk });
  }

  @Serve(routes.diskCreate)
  async create(@Given(routes.diskCreate) { body }: Input<typeof routes.diskCreate>, @By() by: Commission) {
    const [{ from, sizeBytes }] = await Promise.all([
      this.origin(body, by.project),
      refuseTakenDisk(this.kit, by.project, body.name),
    ]);
    if (body.sizeBytes !== undefined && sizeBytes !== null && body.sizeBytes < sizeBytes)
      throw new M2Error('disk.too_small', `What the disk is cloned from has ${sizeBytes} bytes`);
    const input: DiskCreateInput = { disk: uuidv7(), name: body.name, from, sizeBytes: body.sizeBytes };
    return this.runner.begin(by, 'disk.create', input, {
      disk: input.disk,
      ...(from.kind === 'image' ? { image: from.image } : { from: from.disk }),
    });
  }

  @Serve(routes.diskUpdate)
  async update(@Given(routes.diskUpdate) { params, body }: Input<typeof routes.diskUpdate>, @By() by: Commission) {
    const disk = await readyDisk(this.kit, by.project, params.disk);
    const { name, sizeBytes } = body;
    if (sizeBytes !== undefined && sizeBytes < disk.sizeBytes)
      throw new M2Error('disk.too_small', `The disk "${disk.name}" has ${disk.sizeBytes} bytes, and does not shrink`);
    if (sizeBytes !== undefined) refuseHeld(disk);
    if (name !== undefined && name !== disk.name) await refuseTakenDisk(this.kit, by.project, name);
    const input: DiskUpdateInput = { disk: disk.id, name, sizeBytes };
    return this.runner.begin(by, 'disk.update', input, { disk: disk.id });
  }

  @Serve(routes.diskDelete)
  async delete(@Given(routes.diskDelete) { params, query }: Input<typeof routes.diskDelete>, @By() by: Commission) {
    // What is in the trash can still be removed for good.
    const disk = query.purge
      ? await anyDisk(this.kit, by.project, params.disk)
      : await ask(this.kit, diskShow, { project: by.project.id, disk: params.disk });
    refuseHeld(disk);
    const input: DiskDeleteInput = { disk: disk.id, purge: query.purge };
    return this.runner.begin(by, 'disk.delete', input, { disk: disk.id });
  }

  @Serve(routes.diskRestore)
  async restore(@Given(routes.diskRestore) { params, body }: Input<typeof routes.diskRestore>, @By() by: Commission) {
    const disk = await trashedDisk(this.kit, by.project, params.disk);
    await refuseTakenDisk(this.kit, by.project, body.name ?? disk.name);
    const input: DiskRestoreInput = { disk: disk.id, name: body.name };
    return this.runner.begin(by, 'disk.restore', input, { disk: disk.id });
  }

  @Serve(routes.diskFlatten)
  async flatten(@Given(routes.diskFlatten) { params }: Input<typeof routes.diskFlatten>, @By() by: Commission) {
    const disk = await readyDisk(this.kit, by.project, params.disk);
    const input: DiskFlattenInput = { disk: disk.id };
    return this.runner.begin(by, 'disk.flatten', input, { disk: disk.id });
  }

  /** What a new disk is cloned from, by identifier, and how long that is. */
  private async origin(
    { image, disk, tag }: Input<typeof routes.diskCreate>['body'],
    project: Project,
  ): Promise<Origin> {
    if (disk === undefined) {
      const { id, sizeBytes } = await readyImage(this.kit, project, image as string);
      return { from: { kind: 'image', image: id }, sizeBytes };
    }
    const source = await readyDisk(this.kit, project, disk);
    if (tag === undefined) return { from: { kind: 'disk', disk: source.id }, sizeBytes: source.sizeBytes };
    const { id, sizeBytes } = await tagOf(this.kit, source, tag);
    return { from: { kind: 'disk', disk: source.id, tag: id }, sizeBytes };
  }
}
