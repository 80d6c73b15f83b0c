import { imageList, imageShow, imageTree, type Project, routes } from '@m2/contracts';
import { type Kit, KIT } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { ask } from '../door/ask.js';
import { By, Given, In, type Input, Serve } from '../door/serve.js';
import type { Commission } from '../operations/commission.js';
import { Runner } from '@m2/saga';
import { Projects } from '../projects/projects.js';
import type { ImageDeleteInput } from '../sagas/image-delete.js';
import type { ImageExportInput } from '../sagas/image-export.js';
import type { ImageImportInput } from '../sagas/image-import.js';
import { ownImage, readyImage, refuseTakenImage } from './find-image.js';
import { resolveChanges } from './image-changes.js';
import { resolveSource } from './import-source.js';

@Controller()
export class ImagesController {
  private readonly parts: { kit: Kit; projects: Projects };

  constructor(
    @Inject(KIT) private readonly kit: Kit,
    @Inject(Runner) private readonly runner: Runner,
    @Inject(Projects) projects: Projects,
  ) {
    this.parts = { kit, projects };
  }

  @Serve(routes.imageList)
  list(@Given(routes.imageList) { query }: Input<typeof routes.imageList>, @In() project: Project) {
    return ask(this.kit, imageList, { ...query, project: project.id });
  }

  @Serve(routes.imageShow)
  show(@Given(routes.imageShow) { params }: Input<typeof routes.imageShow>, @In() project: Project) {
    return ask(this.kit, imageShow, { project: project.id, image: params.image });
  }

  @Serve(routes.imageTree)
  tree(@Given(routes.imageTree) { params }: Input<typeof routes.imageTree>, @In() project: Project) {
    return ask(this.kit, imageTree, { project: project.id, image: params.image });
  }

  @Serve(routes.imageImport)
  async import(@Given(routes.imageImport) { body }: Input<typeof routes.imageImport>, @By() by: Commission) {
    const source = await resolveSource(this.parts, body.source, by.project, by.actor);
    await refuseTakenImage(this.kit, by.project, body.name);
    const input: ImageImportInput = { ...body, source, imageId: uuidv7() };
    return this.runner.begin(by, 'image.import', input, {
      image: input.imageId,
      ...(source.kind === 'disk' && { disk: source.disk }),
    });
  }

  @Serve(routes.imageUpdate)
  async update(@Given(routes.imageUpdate) { params, body }: Input<typeof routes.imageUpdate>, @By() by: Commission) {
    const image = await ownImage(this.kit, by.project, params.image);
    const input = await resolveChanges(this.parts, body, image, by.project, by.actor);
    return this.runner.begin(by, 'image.update', input, { image: image.id });
  }

  @Serve(routes.imageExport)
  async export(@Given(routes.imageExport) { params, body }: Input<typeof routes.imageExport>, @By() by: Commission) {
    const image = await readyImage(this.kit, by.project, params.image);
    const input: ImageExportInput = { exportId: uuidv7(), image: image.id, volume: body.volume };
    return this.runner.begin(by, 'image.export', input, { image: image.id });
  }

  @Serve(routes.imageDelete)
  async delete(@Given(routes.imageDelete) { params }: Input<typeof routes.imageDelete>, @By() by: Commission) {
    const image = await ownImage(this.kit, by.project, params.image);
    const input: ImageDeleteInput = { image: image.id };
    return this.runner.begin(by, 'image.delete', input, { image: image.id });
  }
}
