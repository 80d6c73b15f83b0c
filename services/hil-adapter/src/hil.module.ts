import { type Kit, KIT } from '@m2/service-kit';
import { Inject, Module, type OnApplicationShutdown } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import type { HilConfig } from './config.js';
import { FlatNetworkDriver } from './networks/flat/flat-driver.js';
import { NetworkHandlers, NETWORKS } from './networks/network-handlers.js';
import { NodeEntity } from './nodes/node.entity.js';
import { NodeHandlers } from './nodes/node-handlers.js';
import { NodeStore } from './nodes/node-store.js';
import { IpmiDriver } from './power/ipmi/ipmi-driver.js';
import { POWER, PowerHandlers } from './power/power-handlers.js';
import type { PowerDriver } from './power/power.port.js';

/** The one place that knows which drivers there are. */
@Module({
  imports: [TypeOrmModule.forFeature([NodeEntity])],
  controllers: [NodeHandlers, PowerHandlers, NetworkHandlers],
  providers: [
    NodeStore,
    {
      provide: POWER,
      inject: [KIT],
      useFactory: ({ config }: Kit<HilConfig>) =>
        new IpmiDriver({
          concurrency: config.bmcConcurrency,
          ...(config.bmcDirectory && { directory: config.bmcDirectory }),
        }),
    },
    {
      provide: NETWORKS,
      inject: [KIT],
      useFactory: ({ config }: Kit<HilConfig>) => new FlatNetworkDriver(config.flatNetwork),
    },
  ],
})
export class HilModule implements OnApplicationShutdown {
  constructor(@Inject(POWER) private readonly power: PowerDriver) {}

  async onApplicationShutdown(): Promise<void> {
    await this.power.close();
  }
}
