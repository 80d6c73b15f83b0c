import { routes } from '@m2/contracts';
import { Controller, Inject, Req, Res } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Actor } from '../access/actor.js';
import { sendStream, wantsStream } from '../door/event-stream.js';
import { Given, type Input, Serve, Who } from '../door/serve.js';
import { Projects } from '../projects/projects.js';
import { Audit, type EventFilter, readCursor } from './audit.js';

@Controller()
export class EventsController {
  constructor(
    @Inject(Audit) private readonly audit: Audit,
    @Inject(Projects) private readonly projects: Projects,
  ) {}

  @Serve(routes.eventList)
  async list(
    @Given(routes.eventList) { query }: Input<typeof routes.eventList>,
    @Who() actor: Actor,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    const { project, ...rest } = query;
    const projects = project
      ? [(await this.projects.visible(project, actor)).id]
      : actor.project
        ? [actor.project]
        : 'all';
    const filter: EventFilter = { ...rest, projects };
    if (!wantsStream(request)) return void reply.send(await this.audit.list(filter));
    const resumed = request.headers['last-event-id'];
    if (typeof resumed === 'string') filter.cursor = resumed;
    // Now, as a stream that has begun cannot be refused any more.
    readCursor(filter.cursor);
    await sendStream(request, reply, (signal) => this.stream(filter, signal));
  }

  private async *stream(filter: EventFilter, signal: AbortSignal) {
    for await (const event of this.audit.follow(filter, signal))
      yield { id: event.sequence, event: event.type, data: event };
  }
}
