import { diskTransfer, imageTransfer, M2Error, type Project, routes } from '@m2/contracts';
import { type Kit, KIT } from '@m2/service-kit';
import { Controller, Inject, Req, Res } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { readyDisk, refuseHeld, tagOf } from '../disks/find-disk.js';
import { ask } from '../door/ask.js';
import { Given, In, type Input, Serve } from '../door/serve.js';
import { ownImage, readyImage } from '../images/find-image.js';
import { passOn } from './pass-on.js';

/** Routes whose bytes come from, or go to, the service that has the storage. Each request gets a door of its own there. */
@Controller()
export class TransfersController {
  constructor(@Inject(KIT) private readonly kit: Kit) {}

  @Serve(routes.imageContent)
  async image(
    @Given(routes.imageContent) { params, query }: Input<typeof routes.imageContent>,
    @In() project: Project,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    const { id } = await readyImage(this.kit, project, params.image);
    const wanted = { project: project.id, image: id, purpose: 'download' as const, format: query.format };
    passOn(request, reply, await ask(this.kit, imageTransfer, wanted));
  }

  @Serve(routes.diskContent)
  async disk(
    @Given(routes.diskContent) { params, query }: Input<typeof routes.diskContent>,
    @In() project: Project,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    const disk = await readyDisk(this.kit, project, params.disk);
    const tag = query.tag === undefined ? undefined : await tagOf(this.kit, disk, query.tag);
    const since = query.since === undefined ? undefined : await tagOf(this.kit, disk, query.since);
    // A tag stands still while a node writes to its disk; the disk itself does not.
    if (!tag) refuseHeld(disk);
    const door = await ask(this.kit, diskTransfer, {
      project: project.id,
      disk: disk.id,
      format: query.format,
      ...(tag && { tag: tag.id }),
      ...(since && { since: since.id }),
    });
    passOn(request, reply, door);
  }

  @Serve(routes.uploadCreate)
  begin(
    @Given(routes.uploadCreate) { params }: Input<typeof routes.uploadCreate>,
    @In() project: Project,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    return this.upload(params.image, project, request, reply);
  }

  @Serve(routes.uploadShow)
  show(
    @Given(routes.uploadShow) { params }: Input<typeof routes.uploadShow>,
    @In() project: Project,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    return this.upload(params.image, project, request, reply);
  }

  @Serve(routes.uploadAppend)
  append(
    @Given(routes.uploadAppend) { params }: Input<typeof routes.uploadAppend>,
    @In() project: Project,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    return this.upload(params.image, project, request, reply);
  }

  private async upload(which: string, project: Project, request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const image = await ownImage(this.kit, project, which);
    if (image.state !== 'importing')
      throw new M2Error('image.not_waiting', `The image "${image.name}" is ${image.state}`);
    passOn(
      request,
      reply,
      await ask(this.kit, imageTransfer, { project: project.id, image: image.id, purpose: 'upload' }),
    );
  }
}
