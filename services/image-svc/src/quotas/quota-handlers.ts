import { quotaSet, quotaShow, type RequestOf } from '@m2/contracts';
import { Answers, type Effect, Handles, type Kit, KIT } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { quotaOf } from './quotas.js';

@Controller()
export class QuotaHandlers {
  constructor(@Inject(KIT) private readonly kit: Kit) {}

  @Answers(quotaShow)
  show({ project }: RequestOf<typeof quotaShow>) {
    return quotaOf(this.kit.database, project);
  }

  @Handles(quotaSet)
  set({ project, limits }: RequestOf<typeof quotaSet>, effect: Effect) {
    return effect.commit(async (sql) => {
      await sql.query(
        `INSERT INTO quotas (project, bytes, disks, images) VALUES ($1, $2, $3, $4)
         ON CONFLICT (project) DO UPDATE SET bytes = excluded.bytes, disks = excluded.disks, images = excluded.images`,
        [project, limits.bytes, limits.disks, limits.images],
      );
      return quotaOf(sql, project);
    });
  }
}
