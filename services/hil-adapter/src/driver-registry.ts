import { M2Error } from '@m2/contracts';

/**
 * The drivers of one port, by the kind of equipment that they drive. The module fills it, and nothing else knows a driver's name. A kind of
 * the contract without a driver here does not compile.
 */
export class DriverRegistry<Kind extends string, Driver> {
  private readonly drivers: ReadonlyMap<string, Driver>;

  /** `equipment` names in errors what the drivers are for, e.g. "BMCs". */
  constructor(
    private readonly equipment: string,
    drivers: Record<Kind, Driver>,
  ) {
    this.drivers = new Map(Object.entries<Driver>(drivers));
  }

  /** Only a newer version of M2 may know the kind: two versions share the database during an upgrade. Throws M2Error `driver.unknown`. */
  of(kind: string): Driver {
    const driver = this.drivers.get(kind);
    if (driver) return driver;
    const known = [...this.drivers.keys()].join(', ');
    throw new M2Error('driver.unknown', `There is no driver "${kind}" for ${this.equipment}. There are: ${known}`);
  }

  all(): Driver[] {
    return [...this.drivers.values()];
  }
}
