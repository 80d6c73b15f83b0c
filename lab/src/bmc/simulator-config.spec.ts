import { describe, expect, it } from 'vitest';
import { lanConfig } from './simulator-config.js';

const bmc = {
  name: 'n1',
  address: '127.0.0.1',
  port: 6230,
  user: 'admin',
  password: 's3cret',
  power: ['sh', '/a b/p'],
};

describe('lanConfig', () => {
  it('asks the script about power, whatever its path looks like', () => {
    expect(lanConfig(bmc)).toContain(`chassis_control "'sh' '/a b/p'"`);
  });

  it('gives the account the password and an address to listen on', () => {
    expect(lanConfig(bmc)).toContain('user 2 true "admin" "s3cret" admin');
    expect(lanConfig(bmc)).toContain('addr 127.0.0.1 6230');
  });

  it.each([
    ['name', 'n1"\nuser 3 true "x" "y" admin 10 none'],
    ['user', 'ad"min'],
    ['address', '::1'],
  ])('refuses a %s that would end its place in the file', (field, value) => {
    expect(() => lanConfig({ ...bmc, [field]: value })).toThrow(`The BMC's ${field}`);
  });

  it('refuses a password that IPMI cannot carry, without showing it', () => {
    expect(() => lanConfig({ ...bmc, password: 'seventeen-letters' })).toThrow(/^(?!.*seventeen)/);
  });
});
