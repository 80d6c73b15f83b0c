import { projectDeleted } from '@m2/contracts';
import { Consumes, type ReceivedEvent, type Sql } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { Reclaimer } from '../volumes/reclaimer.js';

/** Has what the storage keeps for a project (a namespace, a user) removed when the project is deleted. */
@Controller()
export class ProjectEnd {
  constructor(@Inject(Reclaimer) private readonly reclaimer: Reclaimer) {}

  @Consumes({ durable: 'image-projects', of: projectDeleted })
  async forget(events: ReceivedEvent[], sql: Sql): Promise<void> {
    await this.reclaimer.endProjects(
      sql,
      events.map(({ data }) => String(data['id'])),
    );
  }
}
