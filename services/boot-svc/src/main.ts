import { runService } from '@m2/service-kit';
import { bootService } from './service.js';

await runService(bootService);
