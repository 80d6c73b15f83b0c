import { runService } from '@m2/service-kit';
import { imageConfig } from './config.js';
import { ImageModule } from './image.module.js';
import { Image1795000000005, ImageLife1796000000005 } from './migrations.js';

await runService({
  name: 'image',
  config: imageConfig,
  module: ImageModule,
  migrations: [Image1795000000005, ImageLife1796000000005],
  entities: [],
});
