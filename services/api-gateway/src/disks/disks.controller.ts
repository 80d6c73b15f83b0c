import { diskList, diskShow, imageShow, M2Error, type Project, routes } from '@m2/contracts';
import { type Kit, KIT } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import type { Caller } from '../access/caller.js';
import { ask } from '../door/ask.js';
import { Given, type Idempotency, IdempotencyKey, In, type Input, Serve, Who } from '../door/serve.js';
import { Runner } from '../operations/runner.js';
import type { DiskCreateInput } from '../sagas/disk-create.js';
import type { DiskDeleteInput } from '../sagas/disk-delete.js';

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
  async create(
    @Given(routes.diskCreate) { body }: Input<typeof routes.diskCreate>,
    @In() project: Project,
    @Who() caller: Caller,
    @IdempotencyKey() idempotency: Idempotency | undefined,
  ) {
    const image = await ask(this.kit, imageShow, { project: project.id, image: body.image });
    if (image.state !== 'ready') throw new M2Error('image.not_ready', `The image "${image.name}" is ${image.state}`);
    const input: DiskCreateInput = { disk: uuidv7(), name: body.name, image: image.id, sizeBytes: body.sizeBytes };
    return this.runner.accept({
      id: uuidv7(),
      project: project.id,
      kind: 'disk.create',
      input,
      about: { disk: input.disk, image: image.id },
      caller,
      idempotency,
    });
  }

  @Serve(routes.diskDelete)
  async delete(
    @Given(routes.diskDelete) { params }: Input<typeof routes.diskDelete>,
    @In() project: Project,
    @Who() caller: Caller,
    @IdempotencyKey() idempotency: Idempotency | undefined,
  ) {
    const disk = await ask(this.kit, diskShow, { project: project.id, disk: params.disk });
    if (disk.holder) throw new M2Error('disk.in_use', `The disk "${disk.name}" is used by provision ${disk.holder}`);
    const input: DiskDeleteInput = { disk: disk.id };
    return this.runner.accept({
      id: uuidv7(),
      project: project.id,
      kind: 'disk.delete',
      input,
      about: { disk: disk.id },
      caller,
      idempotency,
    });
  }
}
