import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { LabNetwork } from '../network/lab-network.js';
import { toolEnvironment } from '../process/run.js';

/**
 * A real dnsmasq of this test's own on the lab's server interface. It names the script to iPXE, and the program to
 * firmware that boots by HTTP (architecture 16 of RFC 4578's list: x86-64 UEFI HTTP).
 */
export async function startDhcp(
  dir: string,
  network: LabNetwork,
  boot: { script: string; program: string },
): Promise<() => Promise<void>> {
  const { from, to } = network.dhcpRange;
  const args = [
    '--no-daemon',
    '--conf-file=/dev/null',
    '--port=0',
    `--interface=${network.serverInterface}`,
    '--except-interface=lo',
    '--bind-interfaces',
    '--dhcp-authoritative',
    // Without these iPXE waits 3 s: for dnsmasq's ping of the offered address, and for other servers' ProxyDHCP offers.
    '--no-ping',
    '--dhcp-option=encap:175,176,1b',
    `--dhcp-range=${from},${to},255.255.255.0,1h`,
    `--dhcp-leasefile=${join(dir, 'leases')}`,
    `--pid-file=${join(dir, 'dnsmasq.pid')}`,
    '--dhcp-match=set:ipxe,175',
    `--dhcp-boot=tag:ipxe,${boot.script}`,
    '--dhcp-match=set:http,option:client-arch,16',
    '--dhcp-option-force=tag:http,60,HTTPClient',
    `--dhcp-boot=tag:http,tag:!ipxe,${boot.program}`,
    '--enable-ra',
    `--dhcp-range=::,constructor:${network.serverInterface},ra-stateless,64`,
  ];
  const daemon = spawn('dnsmasq', args, { stdio: 'ignore', env: toolEnvironment() });
  const ended = once(daemon, 'exit');
  await once(daemon, 'spawn');
  return async () => {
    daemon.kill('SIGKILL');
    await ended;
  };
}
