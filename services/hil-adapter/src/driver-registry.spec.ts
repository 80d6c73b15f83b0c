import { describe, expect, it } from 'vitest';
import { DriverRegistry } from './driver-registry.js';

describe('a registry of drivers', () => {
  const registry = new DriverRegistry<'ipmi' | 'redfish', object>('BMCs', {
    ipmi: { name: 'one' },
    redfish: { name: 'another' },
  });

  it('has a driver for each kind', () => {
    expect(registry.of('redfish')).toEqual({ name: 'another' });
    expect(registry.all()).toEqual([{ name: 'one' }, { name: 'another' }]);
  });

  it.each(['snmp', 'constructor', '__proto__', ''])('refuses "%s" and says which kinds there are', (kind) => {
    expect(() => registry.of(kind)).toThrow(
      expect.objectContaining({
        code: 'driver.unknown',
        detail: `There is no driver "${kind}" for BMCs. There are: ipmi, redfish`,
      }),
    );
  });
});
