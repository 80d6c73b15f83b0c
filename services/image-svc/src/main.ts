import { runService } from '@m2/service-kit';
import { imageConfig } from './config.js';
import { ImageModule } from './image.module.js';
import { migrations } from './migrations.js';
import { imageExpiring } from './retention.js';

await runService({
  name: 'image',
  config: imageConfig,
  module: ImageModule,
  migrations,
  entities: [],
  expiring: imageExpiring,
});
