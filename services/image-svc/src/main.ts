import { runService } from '@m2/service-kit';
import { imageConfig } from './config.js';
import { ImageModule } from './image.module.js';
import { imageMigrations } from './migrations.js';
import { imageExpiring } from './retention.js';

await runService({
  name: 'image',
  config: imageConfig,
  module: ImageModule,
  migrations: imageMigrations,
  entities: [],
  expiring: imageExpiring,
});
