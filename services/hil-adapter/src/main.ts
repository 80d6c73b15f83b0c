import { runService } from '@m2/service-kit';
import { hilConfig } from './config.js';
import { HilModule } from './hil.module.js';
import { hilMigrations } from './migrations.js';
import { NicEntity, NodeEntity } from './nodes/node.entity.js';

await runService({
  name: 'hil',
  config: hilConfig,
  module: HilModule,
  migrations: hilMigrations,
  entities: [NodeEntity, NicEntity],
});
