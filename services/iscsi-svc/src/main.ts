import { runService } from '@m2/service-kit';
import { iscsiConfig } from './config.js';
import { ExportEntity } from './exports/export.entity.js';
import { IscsiModule } from './iscsi.module.js';
import { Iscsi1795000000003, IscsiHosts1795100000003 } from './migrations.js';

await runService({
  name: 'iscsi',
  config: iscsiConfig,
  module: IscsiModule,
  migrations: [Iscsi1795000000003, IscsiHosts1795100000003],
  entities: [ExportEntity],
});
