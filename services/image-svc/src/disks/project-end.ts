import { projectDeleted } from '@m2/contracts';
import { Consumes, type Kit, KIT, type ReceivedEvent, type Sql } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import type { StorageBackend } from '@m2/storage';
import { STORAGE } from '../storage/storage.token.js';

/**
 * When a project is deleted nothing is its own any more. What is left are settings, and images of others that it was to see: both go, and so
 * does what the storage keeps for it (a namespace, a user).
 */
@Controller()
export class ProjectEnd {
  constructor(
    @Inject(KIT) private readonly kit: Kit,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {}

  @Consumes({ durable: 'image-projects', of: projectDeleted })
  async forget(events: ReceivedEvent[], sql: Sql): Promise<void> {
    const ids = events.map(({ data }) => String(data['id']));
    await sql.query('DELETE FROM quotas WHERE project = ANY($1)', [ids]);
    await sql.query(
      `UPDATE images SET shared_with = (SELECT coalesce(array_agg(id), '{}') FROM unnest(shared_with) id WHERE id <> ALL($1))
       WHERE visibility <> 'private' AND shared_with && $1`,
      [ids],
    );
    for (const { data } of events)
      await this.storage.ensureNoProject(String(data['id'])).catch((error: unknown) => {
        // A project that still has something in the storage (see the storage check) does not stop the others.
        this.kit.log.warn({ err: error, project: data['id'] }, 'a deleted project still has something in the storage');
      });
  }
}
