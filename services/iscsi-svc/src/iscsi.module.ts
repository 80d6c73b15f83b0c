import { type Kit, KIT } from '@m2/service-kit';
import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { join } from 'node:path';
import { Backings } from './backings/backings.js';
import type { IscsiConfig } from './config.js';
import { BACKINGS, DiskTargets, TARGETS } from './exports/disk-targets.js';
import { ExportEntity } from './exports/export.entity.js';
import { ExportHandlers } from './exports/export-handlers.js';
import { ExportPortals } from './exports/export-portals.js';
import { ExportStore } from './exports/export-store.js';
import { PortalHost } from './exports/portal-host.js';
import { ReattachedDisks } from './exports/reattached-disks.js';
import { Reconciler } from './exports/reconciler.js';
import { TgtDriver } from './targets/tgt/tgt-driver.js';

const alone =
  'Another iscsi-svc lives, and disks that are files can have one only: a second one would export the same files. ' +
  'Stop that one first; or keep the disks on Ceph (M2_CEPH_CONF), which any number of them may export';

/** The one place that knows which driver there is. */
@Module({
  imports: [TypeOrmModule.forFeature([ExportEntity])],
  controllers: [ExportHandlers, ReattachedDisks],
  providers: [
    ExportStore,
    ExportPortals,
    DiskTargets,
    PortalHost,
    Reconciler,
    {
      provide: TARGETS,
      inject: [KIT, ExportStore],
      useFactory: async ({ config, leases }: Kit<IscsiConfig>, exports: ExportStore) => {
        if (!config.cephConf) await leases.keep('targets', alone);
        const { targetDirectory: stateDir, portalAddresses: addresses, portalPortBase: portBase } = config;
        return TgtDriver.open({ stateDir, addresses, portBase }, (project) => exports.hasAny(project));
      },
    },
    {
      provide: BACKINGS,
      inject: [KIT],
      useFactory: ({ config: { targetDirectory, cephConf, cephUser } }: Kit<IscsiConfig>) =>
        Backings.open({
          directory: join(targetDirectory, 'rbd'),
          ...(cephConf && { ceph: { conf: cephConf, user: cephUser } }),
        }),
    },
  ],
})
export class IscsiModule {}
