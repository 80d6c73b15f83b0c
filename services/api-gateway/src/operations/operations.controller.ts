import { M2Error, type Operation, routes } from '@m2/contracts';
import { Controller, Inject, Req, Res } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Actor } from '../access/actor.js';
import { sendStream, wantsStream } from '../door/event-stream.js';
import { Given, type Input, Serve, Who } from '../door/serve.js';
import { Projects } from '../projects/projects.js';
import { Live } from './live.js';
import { Runner } from '@m2/saga';

/** A change that nobody told of (a message was lost) is seen after this time. */
const pollMs = 2_000;

@Controller()
export class OperationsController {
  constructor(
    @Inject(Runner) private readonly runner: Runner,
    @Inject(Live) private readonly live: Live,
    @Inject(Projects) private readonly projects: Projects,
  ) {}

  @Serve(routes.operationList)
  async list(@Given(routes.operationList) { query }: Input<typeof routes.operationList>, @Who() actor: Actor) {
    const { project, ...filter } = query;
    const projects = project
      ? [(await this.projects.visible(project, actor)).id]
      : actor.project
        ? [actor.project]
        : 'all';
    return this.runner.store.list({ ...filter, projects });
  }

  @Serve(routes.operationShow)
  async show(
    @Given(routes.operationShow) { params }: Input<typeof routes.operationShow>,
    @Who() actor: Actor,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    const operation = await this.visible(params.id, actor);
    if (!wantsStream(request)) return void reply.send(operation);
    await sendStream(request, reply, (signal) => this.follow(operation, signal));
  }

  private async *follow(operation: Operation, signal: AbortSignal) {
    // Listen first, then look: what changes in between is seen.
    const changes = this.live.changes(operation.id, pollMs, signal);
    let seen = '';
    try {
      do {
        const current = await this.runner.store.show(operation.id);
        const text = JSON.stringify(current);
        if (text !== seen) yield { event: 'operation', data: current };
        seen = text;
        if (current.endedAt || current.state === 'needs_attention') return;
      } while (!(await changes.next()).done);
    } finally {
      await changes.return(undefined);
    }
  }

  @Serve(routes.operationCancel)
  async cancel(@Given(routes.operationCancel) { params }: Input<typeof routes.operationCancel>, @Who() actor: Actor) {
    const { id } = await this.visible(params.id, actor);
    await this.runner.cancel(id);
    return this.runner.store.show(id);
  }

  @Serve(routes.operationResume)
  async resume(@Given(routes.operationResume) { params }: Input<typeof routes.operationResume>, @Who() actor: Actor) {
    const { id } = await this.visible(params.id, actor);
    await this.runner.resume(id);
    return this.runner.store.show(id);
  }

  /** Another project's operation is not there. */
  private async visible(id: string, actor: Actor): Promise<Operation> {
    const operation = await this.runner.store.show(id);
    if (actor.project && operation.project !== actor.project)
      throw new M2Error('operation.not_found', `There is no operation ${id}`);
    return operation;
  }
}
