import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Dnsmasq } from './dnsmasq.js';
import { dnsmasqsWith } from './leftover.js';
import { makeClientNetwork, type ClientNetwork } from './testing/client-network.js';

const isRoot = process.getuid?.() === 0;

const lastByte = (address = '') => Number(address.split('.')[3]);

describe.skipIf(!isRoot)(`dnsmasq${isRoot ? '' : ' (skipped: needs root for network namespaces and port 67)'}`, () => {
  let net: ClientNetwork;
  let dir: string;
  const running: Dnsmasq[] = [];
  const log: string[] = [];

  const start = async (interfaceName = net.serverInterface) => {
    const dnsmasq = await Dnsmasq.start({
      network: {
        interface: interfaceName,
        range: net.range,
        netmask: '255.255.255.0',
        leaseSeconds: 600,
      },
      http: { address: net.serverAddress, port: 8080 },
      dir,
      log: (line) => log.push(line),
    });
    running.push(dnsmasq);
    return dnsmasq;
  };
  const argument = () => `--conf-file=${join(dir, 'dnsmasq.conf')}`;

  beforeEach(async () => {
    log.length = 0;
    net = await makeClientNetwork();
    dir = await mkdtemp(join(tmpdir(), 'm2-dhcp-'));
    await chmod(dir, 0o755);
  });
  afterEach(async () => {
    await Promise.all(running.splice(0).map((dnsmasq) => dnsmasq.stop()));
    await net.remove();
    await rm(dir, { recursive: true });
  });

  it('gives a lease and the BIOS program to a client that says nothing of itself, and that program by TFTP', async () => {
    await start();
    const lease = await net.lease();
    expect(lastByte(lease['ip'])).toBeGreaterThanOrEqual(lastByte(net.range.from));
    expect(lastByte(lease['ip'])).toBeLessThanOrEqual(lastByte(net.range.to));
    expect(lease).toMatchObject({
      boot_file: 'undionly.kpxe',
      siaddr: net.serverAddress,
      serverid: net.serverAddress,
      lease: '600',
    });
    expect(lease).not.toHaveProperty('router');
    expect(lease).not.toHaveProperty('dns');
    await net.run('busybox', 'tftp', '-g', '-r', 'undionly.kpxe', '-l', 'fetched', net.serverAddress);
    await net.run('cmp', 'fetched', '/usr/lib/ipxe/undionly.kpxe');
  });

  it('gives every kind of firmware its own boot file', async () => {
    await start();
    const script = `http://${net.serverAddress}:8080/boot/ipxe?mac=\${netX/mac}`;
    const kinds: [string, string[], string][] = [
      ['BIOS', ['-x', '0x5d:0000', '-V', 'PXEClient:Arch:00000:UNDI:002001'], 'undionly.kpxe'],
      ['UEFI x64', ['-x', '0x5d:0007', '-V', 'PXEClient:Arch:00007:UNDI:003016'], 'snponly.efi'],
      ['UEFI x64, by its other number', ['-x', '0x5d:0009', '-V', 'PXEClient:Arch:00009:UNDI:003016'], 'snponly.efi'],
      ['iPXE by user class', ['-x', '0x4d:69505845'], script],
      ['iPXE by its options, with UEFI', ['-x', '0xaf:130101', '-x', '0x5d:0007'], script],
    ];
    for (const [kind, args, bootFile] of kinds) {
      const lease = await net.lease(...args);
      expect({ kind, bootFile: lease['boot_file'] }).toEqual({ kind, bootFile });
    }
  });

  it('answers firmware that boots over HTTP with its own vendor class and a URL', async () => {
    await start();
    const lease = await net.lease('-x', '0x5d:0010', '-V', 'HTTPClient:Arch:00016:UNDI:003001');
    expect(lease).toMatchObject({
      boot_file: `http://${net.serverAddress}:8080/boot/snponly.efi`,
      vendor: 'HTTPClient',
    });
  });

  it('tells iPXE not to wait for a second boot server', async () => {
    await start();
    const lease = await net.lease('-x', '0x4d:69505845', '-O', '175');
    // Option 176 with the value 1; dnsmasq ends encapsulated options as RFC 2132 section 8.4 does.
    expect(lease['opt175']).toBe('b00101ff');
  });

  it('announces an IPv6 router, which iPXE would wait for', async () => {
    await start();
    const addresses = () => net.run('ip', '-6', 'address', 'show', 'dev', 'client', 'scope', 'global');
    await expect.poll(addresses, { timeout: 30_000 }).toContain(`inet6 ${net.ipv6Prefix}:`);
  });

  it('gives static hosts their address, and takes a new list without a restart', async () => {
    const dnsmasq = await start();
    const at = (host: number) => net.serverAddress.replace(/1$/, String(host));
    await dnsmasq.setHosts([{ mac: net.clientMac.toUpperCase(), address: at(22), hostname: 'web-1' }]);
    expect(await net.lease()).toMatchObject({ ip: at(22), hostname: 'web-1' });
    const pids = await dnsmasqsWith(argument());
    await Promise.all([dnsmasq.setHosts([]), dnsmasq.setHosts([{ mac: net.clientMac, address: at(23) }])]);
    expect(await net.lease()).toMatchObject({ ip: at(23) });
    expect(await dnsmasqsWith(argument())).toEqual(pids);
    expect(() => dnsmasq.setHosts([{ mac: 'x\ny' }])).toThrow(/MAC address/);
  });

  it('serves nothing but the boot programs', async () => {
    await start();
    await net.lease();
    for (const file of ['../dnsmasq.conf', '/etc/passwd', '../../../../../../etc/passwd', 'nothing']) {
      const fetch = net.run('busybox', 'tftp', '-g', '-r', file, '-l', 'stolen', net.serverAddress);
      await expect(fetch).rejects.toThrow(/tftp/);
    }
  });

  it('leaves no process behind', async () => {
    const dnsmasq = await start();
    expect(await dnsmasqsWith(argument())).toHaveLength(1);
    await dnsmasq.stop();
    await dnsmasq.stop();
    expect(await dnsmasqsWith(argument())).toEqual([]);
    expect(dnsmasq.serving).toBe(false);
  });

  it('runs as an unprivileged user', async () => {
    await start();
    const [pid] = await dnsmasqsWith(argument());
    expect(await readFile(`/proc/${pid}/status`, 'utf8')).toMatch(/^Uid:\t(?!0\t)/m);
  });

  it('stays root, and says so, where others may not enter its directory', async () => {
    await chmod(dir, 0o700);
    const dnsmasq = await start();
    const address = net.serverAddress.replace(/1$/, '22');
    await dnsmasq.setHosts([{ mac: net.clientMac, address }]);
    expect(await net.lease()).toMatchObject({ ip: address });
    expect(log).toContain(`dnsmasq stays root, as others may not enter ${dir}`);
  });

  it('is started again when it dies, and remembers the leases', async () => {
    const dnsmasq = await start();
    const first = await net.lease();
    const [pid] = await dnsmasqsWith(argument());
    process.kill(pid ?? Number.NaN, 'SIGKILL');
    await expect.poll(() => log.filter((line) => line.includes(': started, ')).length, { timeout: 20_000 }).toBe(2);
    expect(dnsmasq.serving).toBe(true);
    expect(await net.lease()).toMatchObject({ ip: first['ip'] });
    expect(await readFile(join(dir, 'leases'), 'utf8')).toContain(net.clientMac);
  });

  it('ends what a killed parent left behind', async () => {
    await (await start()).stop();
    const left = spawn('dnsmasq', ['--keep-in-foreground', argument()], { stdio: 'ignore' });
    await once(left, 'spawn');
    const exit = once(left, 'exit');
    await start();
    await exit;
    expect(await dnsmasqsWith(argument())).toHaveLength(1);
    await net.lease();
  });

  it("says in dnsmasq's words why it cannot start", async () => {
    await expect(start('m2nothere')).rejects.toMatchObject({
      code: 'service.unavailable',
      message: expect.stringContaining('unknown interface m2nothere') as string,
    });
  });
});
