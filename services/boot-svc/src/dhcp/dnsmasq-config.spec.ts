import { fileURLToPath } from 'node:url';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { dnsmasqConfig, hostsFile, UnsafeDhcpValue, type DhcpConfig, type StaticHost } from './dnsmasq-config.js';

const config: DhcpConfig = {
  interface: 'eth1',
  range: { from: '10.77.5.10', to: '10.77.5.119' },
  netmask: '255.255.255.0',
  leaseSeconds: 3600,
  http: { address: '10.77.5.1', port: 8080 },
  leaseFile: '/var/lib/m2/dhcp/leases',
  hostsFile: '/var/lib/m2/dhcp/hosts',
  tftpRoot: '/var/lib/m2/dhcp/tftp',
};
const hosts: StaticHost[] = [
  { mac: '52:54:00:00:00:02', address: '10.77.5.22' },
  { mac: '52:54:00:00:00:01', address: '10.77.5.21', hostname: 'web-1' },
  { mac: '52:54:00:00:00:03', hostname: 'web-3' },
];
const golden = (name: string) => fileURLToPath(new URL(`golden/${name}`, import.meta.url));

describe('configuration', () => {
  it('is the golden one', async () => {
    await expect(dnsmasqConfig(config)).toMatchFileSnapshot(golden('dnsmasq.conf.golden'));
  });

  it('is the golden one with a router, and as root', async () => {
    const text = dnsmasqConfig({ ...config, router: '10.77.5.254', user: 'root' });
    await expect(text).toMatchFileSnapshot(golden('dnsmasq-router-root.conf.golden'));
  });

  it('takes its static hosts from the golden file', async () => {
    await expect(hostsFile(hosts)).toMatchFileSnapshot(golden('hosts.golden'));
  });
});

/** Every place where a text of somebody's stands, and how to write it there. */
const places: Record<string, (text: string) => string> = {
  interface: (text) => dnsmasqConfig({ ...config, interface: text }),
  'start of the range': (from) => dnsmasqConfig({ ...config, range: { ...config.range, from } }),
  'end of the range': (to) => dnsmasqConfig({ ...config, range: { ...config.range, to } }),
  netmask: (netmask) => dnsmasqConfig({ ...config, netmask }),
  router: (router) => dnsmasqConfig({ ...config, router }),
  'HTTP address': (address) => dnsmasqConfig({ ...config, http: { ...config.http, address } }),
  'lease file': (leaseFile) => dnsmasqConfig({ ...config, leaseFile }),
  'hosts file': (path) => dnsmasqConfig({ ...config, hostsFile: path }),
  'TFTP root': (tftpRoot) => dnsmasqConfig({ ...config, tftpRoot }),
  'MAC address': (mac) => hostsFile([{ mac }]),
  'static address': (address) => hostsFile([{ mac: '52:54:00:00:00:01', address }]),
  'host name': (hostname) => hostsFile([{ mac: '52:54:00:00:00:01', hostname }]),
};
const valid: Record<string, string> = {
  interface: 'eth0',
  'lease file': '/x',
  'hosts file': '/x',
  'TFTP root': '/x',
  'MAC address': '52:54:00:00:00:01',
  'host name': 'x',
};

const shape = (text: string) => ({ lines: text.split(/[\n\r]/).length, commas: text.split(',').length });

describe.each(Object.entries(places))('a text as %s', (name, write) => {
  const pieces = [
    'a',
    '1',
    '.',
    '/',
    '-',
    ':',
    ',',
    '\n',
    '\r',
    '#',
    ' ',
    '\t',
    '"',
    '\\',
    'ignore',
    'set:x',
    'dhcp-script=',
    '\0',
  ];

  it('never adds a line or a field', () => {
    const expected = shape(write(valid[name] ?? '10.1.2.3'));
    const text = fc.oneof(fc.string({ unit: fc.constantFrom(...pieces), maxLength: 8 }), fc.string({ unit: 'binary' }));
    const written = (value: string) => {
      try {
        return shape(write(value));
      } catch (error) {
        return error;
      }
    };
    fc.assert(
      fc.property(text, (value) => {
        const outcome = written(value);
        expect(outcome instanceof UnsafeDhcpValue ? expected : outcome).toEqual(expected);
      }),
      { numRuns: 500 },
    );
  });

  it.each(['', 'a\nport=53', 'x,y', 'x #', ' ', '\0'])('is refused when it is %j', (text) => {
    expect(() => write(text)).toThrow(expect.objectContaining({ code: 'request.invalid' }));
  });
});

describe('a number', () => {
  it.each([0, -1, 65_536, 80.5, Number.NaN])('is refused as a port when it is %s', (port) => {
    expect(() => dnsmasqConfig({ ...config, http: { ...config.http, port } })).toThrow(/HTTP port/);
  });

  it('is refused as a host name, where it would be a lease time', () => {
    expect(() => hostsFile([{ mac: '52:54:00:00:00:01', hostname: '3600' }])).toThrow(/host name/);
  });
});
