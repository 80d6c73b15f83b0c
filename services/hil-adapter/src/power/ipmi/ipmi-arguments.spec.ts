import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { BmcAddress } from '../power.port.js';
import { checkBmc, ipmitoolCommand, ipmitoolEnvironment, retriesWithin } from './ipmi-arguments.js';

const bmc: BmcAddress = {
  driver: 'ipmi',
  address: 'bmc-1.example.org',
  port: 623,
  user: 'admin',
  password: 'a password %$`;&',
  cipherSuites: [17, 3],
};

describe('checkBmc', () => {
  it.each(['10.0.0.7', 'fe80::1', 'bmc-1', 'bmc-1.example.org.', '7up.example'])('takes the address %j', (address) => {
    expect(() => checkBmc({ ...bmc, address })).not.toThrow();
  });

  const wrong: [string, Partial<BmcAddress>][] = [
    ...['', '-H', '--help', 'a b', 'a\nb', 'a;b', '$(id)', 'a..b', '-a.example', 'a_b', 'x'.repeat(254)].map(
      (address): [string, Partial<BmcAddress>] => [`the address ${JSON.stringify(address)}`, { address }],
    ),
    ...['', '-P', 'a\0b', 'a\nb', 'ä', 'x'.repeat(17)].map((user): [string, Partial<BmcAddress>] => [
      `the user ${JSON.stringify(user)}`,
      { user },
    ]),
    ...['', 'a\0b', 'a\nb', 'x'.repeat(21)].map((password): [string, Partial<BmcAddress>] => [
      `the password ${JSON.stringify(password)}`,
      { password },
    ]),
    ...[0, -1, 65_536, 1.5, Number.NaN].map((port): [string, Partial<BmcAddress>] => [`the port ${port}`, { port }]),
    ...[[], [0], [3, 18], [1.5]].map((cipherSuites): [string, Partial<BmcAddress>] => [
      `the suites ${JSON.stringify(cipherSuites)}`,
      { cipherSuites },
    ]),
  ];
  it.each(wrong)('refuses %s', (_, part) => {
    expect(() => checkBmc({ ...bmc, ...part })).toThrow(expect.objectContaining({ code: 'request.invalid' }));
  });

  it('does not say the password that it refuses', () => {
    const password = 'much-too-long-for-a-BMC';
    expect(() => checkBmc({ ...bmc, password })).toThrow(/must be 1 to 20/);
    expect(() => checkBmc({ ...bmc, password })).not.toThrow(new RegExp(password));
  });

  const tricky = fc.string({ unit: fc.constantFrom('a', '0', '-', '.', ':', ' ', '\n', '\0', '%'), maxLength: 6 });
  it('lets nothing pass that could be taken for an option', () => {
    fc.assert(
      fc.property(tricky, tricky, (address, user) => {
        try {
          checkBmc({ ...bmc, address, user });
        } catch {
          return;
        }
        expect(address).not.toMatch(/^-|\s/);
        expect(user).toMatch(/^[ -~]+$/);
        expect(user).not.toMatch(/^-/);
      }),
    );
  });
});

describe('ipmitool', () => {
  it('is called with these arguments', () => {
    expect(ipmitoolCommand(bmc, 17, 2, '/home/fifo')).toEqual({
      file: 'stdbuf',
      args: '-oL ipmitool -v -I lanplus -H bmc-1.example.org -p 623 -U admin -E -C 17 -N 1 -R 2 exec /home/fifo'.split(
        ' ',
      ),
    });
  });

  it('gets the password in its environment only, and nothing else of ours', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[\x20-\x7e]{6,20}$/), (password) => {
        const { file, args } = ipmitoolCommand({ ...bmc, password }, 3, 1, '/home/fifo');
        expect([file, ...args].join(' ')).not.toContain(password);
        const environment = ipmitoolEnvironment({ ...bmc, password }, '/home');
        expect(Object.keys(environment)).toEqual(['PATH', 'HOME', 'LC_ALL', 'IPMI_PASSWORD']);
        expect(environment['IPMI_PASSWORD']).toBe(password);
      }),
    );
  });

  it('repeats what was not answered as often as the time allows', () => {
    const tries = [100, 2000, 8000, 16_000, 30_000, 180_000].map(retriesWithin);
    expect(tries).toEqual([1, 1, 2, 3, 4, 4]);
  });
});
