import { type Kit, KIT, Periodic } from '@m2/service-kit';
import { Inject, Injectable, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import type { BootConfiguration } from '../config.js';
import { heldAddresses } from '../configs/config-store.js';
import { Dnsmasq } from './dnsmasq.js';

const leaseSeconds = 3_600;
/** Many times before a lease ends. */
const reserveEveryMs = 10_000;

/** Serves DHCP and TFTP where the configuration names a network that is ours; elsewhere somebody else's DHCP names our boot URL. */
@Injectable()
export class Dhcp implements OnModuleInit, OnApplicationShutdown {
  private dnsmasq: Dnsmasq | undefined;
  private reservations: Periodic | undefined;
  private reserved = '';

  constructor(@Inject(KIT) private readonly kit: Kit<BootConfiguration>) {}

  async onModuleInit(): Promise<void> {
    const { dhcpInterface, dhcpRange, bootUrl, bootDirectory } = this.kit.config;
    if (!dhcpInterface || !dhcpRange) return;
    await this.kit.leases.keep(
      `dhcp ${dhcpInterface}`,
      `Another boot-svc lives and serves DHCP on ${dhcpInterface}: a second one would give the same addresses to other nodes. ` +
        'Stop that one first, or start this one without M2_DHCP_INTERFACE',
    );
    const [from = '', to = ''] = dhcpRange.split(',');
    const hosts = await heldAddresses(this.kit.database);
    this.reserved = JSON.stringify(hosts);
    const { hostname, port } = new URL(bootUrl);
    this.dnsmasq = await Dnsmasq.start({
      network: { interface: dhcpInterface, range: { from, to }, netmask: netmaskOf(dhcpInterface), leaseSeconds },
      http: { address: hostname, port: Number(port || 80) },
      dir: join(bootDirectory, 'dhcp'),
      hosts,
      log: (line) => this.kit.log.debug({ dnsmasq: line }, 'dnsmasq'),
    });
    const { dnsmasq } = this;
    this.reservations = new Periodic({
      everyMs: reserveEveryMs,
      work: () => this.reserve(dnsmasq),
      onError: (err) =>
        this.kit.log.warn({ err }, 'the addresses of booted nodes could not be reserved; it is tried again'),
    });
    this.reservations.start();
    this.kit.readiness.push({
      name: 'dhcp',
      check: async () => {
        if (!this.dnsmasq?.serving) throw new Error('dnsmasq is not running');
      },
    });
  }

  async onApplicationShutdown(): Promise<void> {
    // First: a reservation under way waits for dnsmasq's answer.
    await this.reservations?.stop();
    await this.dnsmasq?.stop();
  }

  /**
   * A node's system keeps the address that its firmware got (it is in the iBFT) and never renews the lease: when that ends, another node
   * would get the same address. So the address stays reserved for the nic as long as the boot configuration exists.
   */
  private async reserve(dnsmasq: Dnsmasq): Promise<void> {
    const hosts = await heldAddresses(this.kit.database);
    const text = JSON.stringify(hosts);
    if (text === this.reserved) return;
    await dnsmasq.setHosts(hosts);
    this.reserved = text;
  }
}

function netmaskOf(name: string): string {
  const address = networkInterfaces()[name]?.find(({ family }) => family === 'IPv4');
  if (!address) throw new Error(`The interface ${name} (M2_DHCP_INTERFACE) has no IPv4 address on this machine`);
  return address.netmask;
}
