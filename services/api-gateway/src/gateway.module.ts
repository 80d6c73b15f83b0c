import { Runner } from '@m2/saga';
import { KIT, type Kit } from '@m2/service-kit';
import { Module } from '@nestjs/common';
import { APP_GUARD, APP_INTERCEPTOR } from '@nestjs/core';
import { AccessController } from './access/access.controller.js';
import { AccessGuard } from './access/guard.js';
import { Tokens } from './access/tokens.js';
import { DisksController } from './disks/disks.controller.js';
import { TagsController } from './disks/tags.controller.js';
import { DescriptionController } from './door/description.controller.js';
import type { GatewayConfig } from './config.js';
import { Audit } from './events/audit.js';
import { EventsController } from './events/events.controller.js';
import { ImagesController } from './images/images.controller.js';
import { NodesController } from './nodes/nodes.controller.js';
import { IdempotencyInterceptor } from './operations/idempotency.js';
import { Live } from './operations/live.js';
import { OperationsController } from './operations/operations.controller.js';
import { Projects } from './projects/projects.js';
import { ProjectsController } from './projects/projects.controller.js';
import { Provisions } from './provisions/provisions.js';
import { ProvisionsController } from './provisions/provisions.controller.js';
import { sagas } from './sagas/index.js';
import { StorageController } from './storage/storage.controller.js';
import { TransfersController } from './transfers/transfers.controller.js';

@Module({
  controllers: [
    AccessController,
    DescriptionController,
    DisksController,
    EventsController,
    ImagesController,
    NodesController,
    OperationsController,
    ProjectsController,
    ProvisionsController,
    StorageController,
    TagsController,
    TransfersController,
  ],
  providers: [
    Tokens,
    Projects,
    Live,
    {
      provide: Runner,
      useFactory: (kit: Kit<GatewayConfig>, live: Live) =>
        new Runner(kit, {
          sagas,
          instance: kit.config.instance,
          concurrency: kit.config.concurrency,
          changed: (operation) => live.changed(operation),
        }),
      inject: [KIT, Live],
    },
    Provisions,
    Audit,
    { provide: APP_GUARD, useClass: AccessGuard },
    { provide: APP_INTERCEPTOR, useClass: IdempotencyInterceptor },
  ],
})
export class GatewayModule {}
