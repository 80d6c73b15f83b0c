import { runService } from '@m2/service-kit';
import { gatewayService } from './service.js';

await runService(gatewayService);
