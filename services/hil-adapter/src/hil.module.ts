import { type Kit, KIT } from '@m2/service-kit';
import { Inject, Module, type OnApplicationShutdown } from '@nestjs/common';
import type { HilConfig } from './config.js';
import { DriverRegistry } from './driver-registry.js';
import { FlatNetworkDriver } from './networks/flat/flat-driver.js';
import { NETWORK_DRIVERS, NetworkHandlers, type NetworkDrivers } from './networks/network-handlers.js';
import { NodeHandlers } from './nodes/node-handlers.js';
import { NodeStore } from './nodes/node-store.js';
import { IpmiDriver } from './power/ipmi/ipmi-driver.js';
import type { BmcTurns } from './power/power.port.js';
import { POWER_DRIVERS, type PowerDrivers, PowerHandlers } from './power/power-handlers.js';

/** The one place that knows which drivers there are. */
@Module({
  controllers: [NodeHandlers, PowerHandlers, NetworkHandlers],
  providers: [
    NodeStore,
    {
      provide: POWER_DRIVERS,
      inject: [KIT],
      useFactory: ({ config: { bmcConcurrency, bmcDirectory }, leases }: Kit<HilConfig>): PowerDrivers => {
        // BMCs mix up concurrent sessions, whichever replica has them.
        const turns: BmcTurns = {
          take: (bmc, patience, talk) => leases.hold(`bmc ${bmc}`, patience, ({ signal }) => talk(signal)),
        };
        return new DriverRegistry('BMCs', {
          ipmi: new IpmiDriver({
            concurrency: bmcConcurrency,
            turns,
            ...(bmcDirectory && { directory: bmcDirectory }),
          }),
        });
      },
    },
    {
      provide: NETWORK_DRIVERS,
      inject: [KIT],
      useFactory: ({ config }: Kit<HilConfig>): NetworkDrivers =>
        new DriverRegistry('switches', {
          flat: new FlatNetworkDriver(config.flatNetwork),
        }),
    },
  ],
})
export class HilModule implements OnApplicationShutdown {
  constructor(@Inject(POWER_DRIVERS) private readonly power: PowerDrivers) {}

  async onApplicationShutdown(): Promise<void> {
    await Promise.all(this.power.all().map((driver) => driver.close()));
  }
}
