import { asyncApi, openApi, routes } from '@m2/contracts';
import { Controller } from '@nestjs/common';
import { Serve } from './serve.js';

/** What the gateway says about itself. */
@Controller()
export class DescriptionController {
  @Serve(routes.openapi)
  openapi() {
    return openApi();
  }

  @Serve(routes.asyncapi)
  asyncapi() {
    return asyncApi();
  }

  @Serve(routes.health)
  health() {
    return { status: 'ok' };
  }
}
