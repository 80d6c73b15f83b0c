import { imageList, imageShow, type Project, routes } from '@m2/contracts';
import { type Kit, KIT } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import type { Caller } from '../access/caller.js';
import { ask } from '../door/ask.js';
import { Given, type Idempotency, IdempotencyKey, In, type Input, Serve, Who } from '../door/serve.js';
import { Runner } from '../operations/runner.js';
import type { ImageDeleteInput } from '../sagas/image-delete.js';
import type { ImageImportInput } from '../sagas/image-import.js';

@Controller()
export class ImagesController {
  constructor(
    @Inject(KIT) private readonly kit: Kit,
    @Inject(Runner) private readonly runner: Runner,
  ) {}

  @Serve(routes.imageList)
  list(@Given(routes.imageList) { query }: Input<typeof routes.imageList>, @In() project: Project) {
    return ask(this.kit, imageList, { ...query, project: project.id });
  }

  @Serve(routes.imageShow)
  show(@Given(routes.imageShow) { params }: Input<typeof routes.imageShow>, @In() project: Project) {
    return ask(this.kit, imageShow, { project: project.id, image: params.image });
  }

  @Serve(routes.imageImport)
  import(
    @Given(routes.imageImport) { body }: Input<typeof routes.imageImport>,
    @In() project: Project,
    @Who() caller: Caller,
    @IdempotencyKey() idempotency: Idempotency | undefined,
  ) {
    const input: ImageImportInput = { ...body, imageId: uuidv7() };
    return this.runner.accept({
      id: uuidv7(),
      project: project.id,
      kind: 'image.import',
      input,
      about: { image: input.imageId },
      caller,
      idempotency,
    });
  }

  @Serve(routes.imageDelete)
  async delete(
    @Given(routes.imageDelete) { params }: Input<typeof routes.imageDelete>,
    @In() project: Project,
    @Who() caller: Caller,
    @IdempotencyKey() idempotency: Idempotency | undefined,
  ) {
    const image = await ask(this.kit, imageShow, { project: project.id, image: params.image });
    const input: ImageDeleteInput = { image: image.id };
    return this.runner.accept({
      id: uuidv7(),
      project: project.id,
      kind: 'image.delete',
      input,
      about: { image: image.id },
      caller,
      idempotency,
    });
  }
}
