import { diskReattached } from '@m2/contracts';
import { Consumes, type ReceivedEvent, type Sql } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { Reconciler } from './reconciler.js';

/** The file is a new one at the same path; a LUN that holds the old one open serves nothing but errors. */
@Controller()
export class ReattachedDisks {
  constructor(@Inject(Reconciler) private readonly reconciler: Reconciler) {}

  @Consumes({ durable: 'iscsi-reattached', of: diskReattached })
  async reopen(events: ReceivedEvent[], sql: Sql): Promise<void> {
    const rows = await sql.query<{ id: string; project: string }>(
      `SELECT id, project FROM exports WHERE disk = ANY($1) AND state <> 'deleting'`,
      [events.map(({ data }) => data['id'])],
    );
    this.reconciler.reopen(rows);
  }
}
