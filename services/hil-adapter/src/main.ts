import { runService } from '@m2/service-kit';
import { hilConfig } from './config.js';
import { HilModule } from './hil.module.js';
import { BrokenNodes1796000000002, Hil1795000000002 } from './migrations.js';
import { NicEntity, NodeEntity } from './nodes/node.entity.js';

await runService({
  name: 'hil',
  config: hilConfig,
  module: HilModule,
  migrations: [Hil1795000000002, BrokenNodes1796000000002],
  entities: [NodeEntity, NicEntity],
});
