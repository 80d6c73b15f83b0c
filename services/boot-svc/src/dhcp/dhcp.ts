import { type Kit, KIT } from '@m2/service-kit';
import { Inject, Injectable, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import type { BootConfiguration } from '../config.js';
import { Dnsmasq } from './dnsmasq.js';

const leaseSeconds = 3_600;

/** Serves DHCP and TFTP where the configuration names a network that is ours; elsewhere somebody else's DHCP names our boot URL. */
@Injectable()
export class Dhcp implements OnModuleInit, OnApplicationShutdown {
  private dnsmasq: Dnsmasq | undefined;

  constructor(@Inject(KIT) private readonly kit: Kit<BootConfiguration>) {}

  async onModuleInit(): Promise<void> {
    const { dhcpInterface, dhcpRange, bootUrl, bootDirectory } = this.kit.config;
    if (!dhcpInterface || !dhcpRange) return;
    const [from = '', to = ''] = dhcpRange.split(',');
    const { hostname, port } = new URL(bootUrl);
    this.dnsmasq = await Dnsmasq.start({
      network: { interface: dhcpInterface, range: { from, to }, netmask: netmaskOf(dhcpInterface), leaseSeconds },
      http: { address: hostname, port: Number(port || 80) },
      dir: join(bootDirectory, 'dhcp'),
      log: (line) => this.kit.log.debug({ dnsmasq: line }, 'dnsmasq'),
    });
    this.kit.readiness.push({
      name: 'dhcp',
      check: async () => {
        if (!this.dnsmasq?.serving) throw new Error('dnsmasq is not running');
      },
    });
  }

  async onApplicationShutdown(): Promise<void> {
    await this.dnsmasq?.stop();
  }
}

function netmaskOf(name: string): string {
  const address = networkInterfaces()[name]?.find(({ family }) => family === 'IPv4');
  if (!address) throw new Error(`The interface ${name} (M2_DHCP_INTERFACE) has no IPv4 address on this machine`);
  return address.netmask;
}
