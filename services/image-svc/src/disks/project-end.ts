import { projectDeleted } from '@m2/contracts';
import { Consumes, type ReceivedEvent, type Sql } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { Reclaimer } from '../volumes/reclaimer.js';

/**
 * When a project is deleted nothing is its own any more. What is left are settings, and images of others that it was to see: both go, and so
 * does what the storage keeps for it (a namespace, a user).
 */
@Controller()
export class ProjectEnd {
  constructor(@Inject(Reclaimer) private readonly reclaimer: Reclaimer) {}

  @Consumes({ durable: 'image-projects', of: projectDeleted })
  async forget(events: ReceivedEvent[], sql: Sql): Promise<void> {
    const ids = events.map(({ data }) => String(data['id']));
    await sql.query(
      `UPDATE images SET shared_with = (SELECT coalesce(array_agg(id), '{}') FROM unnest(shared_with) id WHERE id <> ALL($1))
       WHERE visibility <> 'private' AND shared_with && $1`,
      [ids],
    );
    await this.reclaimer.endProjects(sql, ids);
  }
}
