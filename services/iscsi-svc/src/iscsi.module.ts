import { type Kit, KIT } from '@m2/service-kit';
import { Module } from '@nestjs/common';
import type { IscsiConfig } from './config.js';
import { ExportHandlers, TARGETS } from './exports/export-handlers.js';
import { ExportStore } from './exports/export-store.js';
import { Reconciler } from './exports/reconciler.js';
import { TgtDriver } from './targets/tgt/tgt-driver.js';

/** The one place that knows which driver there is. */
@Module({
  providers: [
    ExportStore,
    ExportHandlers,
    Reconciler,
    {
      provide: TARGETS,
      inject: [KIT],
      useFactory: ({ config }: Kit<IscsiConfig>) =>
        TgtDriver.open({
          stateDir: config.targetDirectory,
          addresses: config.portalAddresses,
          portBase: config.portalPortBase,
        }),
    },
  ],
})
export class IscsiModule {}
