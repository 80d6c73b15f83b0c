import { runService } from '@m2/service-kit';
import { iscsiConfig } from './config.js';
import { ExportEntity } from './exports/export.entity.js';
import { IscsiModule } from './iscsi.module.js';
import { iscsiMigrations } from './migrations.js';
import { iscsiExpiring } from './retention.js';

await runService({
  name: 'iscsi',
  config: iscsiConfig,
  module: IscsiModule,
  migrations: iscsiMigrations,
  entities: [ExportEntity],
  expiring: iscsiExpiring,
});
