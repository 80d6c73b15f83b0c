import { isIPv4 } from 'node:net';

/** The network that we own: on `interface` nobody else answers DHCP. */
export interface DhcpNetwork {
  interface: string;
  /** First and last address to give away. */
  range: { from: string; to: string };
  netmask: string;
  /** Absent: the nodes get no default route; they need none to reach their disks. */
  router?: string;
  leaseSeconds: number;
}

export interface DhcpConfig extends DhcpNetwork {
  /** Where nodes fetch scripts and programs: our address in this network. */
  http: { address: string; port: number };
  leaseFile: string;
  hostsFile: string;
  tftpRoot: string;
  /** Only when it cannot be another one; dnsmasq's own choice is an unprivileged user. */
  user?: 'root';
}

/** A nic that always gets the same address, or a name to tell it. */
export interface StaticHost {
  mac: string;
  address?: string;
  hostname?: string;
}

/** A value would mean something else in dnsmasq's configuration. */
export class UnsafeDhcpValue extends Error {
  override readonly name = 'UnsafeDhcpValue';
  readonly code = 'request.invalid';

  constructor(what: string, rule: string) {
    super(`The ${what} of the DHCP service ${rule}. Correct it in the configuration of boot-svc.`);
  }
}

/** Where the HTTP service serves a nic's script. iPXE fills in the address of the nic that it got its lease with. */
export const scriptPath = '/boot/ipxe';
/** Where the HTTP service serves the program for firmware that boots over HTTP without TFTP. */
export const uefiProgramPath = '/boot/snponly.efi';

/** Files of Debian's package ipxe: `undionly` and `snponly` use the firmware's own driver, so they fit every nic. */
export const bootPrograms = { bios: 'undionly.kpxe', uefi: 'snponly.efi' } as const;

const inSet = (what: string, value: string, rule: string, allowed: RegExp) => {
  if (!allowed.test(value)) throw new UnsafeDhcpValue(what, rule);
  return value;
};
const ipv4 = (what: string, value: string) => {
  if (!isIPv4(value)) throw new UnsafeDhcpValue(what, 'must be an IPv4 address');
  return value;
};
/** dnsmasq splits at commas and takes `#` after a blank for a comment. */
const path = (what: string, value: string) =>
  inSet(what, value, 'must be an absolute path of letters, digits and . _ / + -', /^\/[A-Za-z0-9._/+-]+$/);
const integer = (what: string, value: number, from: number, to: number) => {
  if (!Number.isInteger(value) || value < from || value > to) {
    throw new UnsafeDhcpValue(what, `must be a number from ${from} to ${to}`);
  }
  return String(value);
};

/**
 * dnsmasq's configuration. Which boot file a client gets (RFC 4578 section 2.1 for the architectures of option 93):
 *
 * - iPXE, which says so by its user class or by option 175, gets the URL of its script;
 * - UEFI x64 (7, 9) gets `snponly.efi` by TFTP; UEFI x64 that boots over HTTP (16) gets its URL, and only if we answer with
 *   its own vendor class;
 * - everything else is a BIOS, as old ones send no architecture, and gets `undionly.kpxe` by TFTP.
 */
export function dnsmasqConfig(config: DhcpConfig): string {
  const nic = inSet('interface', config.interface, 'must be the name of a network interface', /^[A-Za-z0-9._-]{1,15}$/);
  const from = ipv4('start of the range', config.range.from);
  const to = ipv4('end of the range', config.range.to);
  const netmask = ipv4('netmask', config.netmask);
  const lease = integer('lease time', config.leaseSeconds, 120, 31_536_000);
  const origin = `http://${ipv4('HTTP address', config.http.address)}:${integer('HTTP port', config.http.port, 1, 65_535)}`;
  const router = config.router === undefined ? '' : `,${ipv4('router', config.router)}`;
  return `# Written by M2 at each start of boot-svc: changes are lost.
# DHCP and TFTP for one network, no DNS.
port=0
interface=${nic}
bind-interfaces
# Or it would write the one of the machine's own dnsmasq.
pid-file=
${config.user ? `user=${config.user}\n` : ''}
# We own the network: nobody else gives addresses, so none is probed first (that takes 3 seconds) and leases that we do not know
# are refused at once.
dhcp-range=${from},${to},${netmask},${lease}
dhcp-authoritative
no-ping
dhcp-leasefile=${path('lease file', config.leaseFile)}
dhcp-hostsfile=${path('file of static hosts', config.hostsFile)}
dhcp-option=option:router${router}

# iPXE waits 13 seconds for an IPv6 router when there is none.
enable-ra
dhcp-range=::,constructor:${nic},ra-stateless,64

dhcp-userclass=set:ipxe,iPXE
dhcp-match=set:ipxe,175
dhcp-match=set:uefi,option:client-arch,7
dhcp-match=set:uefi,option:client-arch,9
dhcp-match=set:uefi-http,option:client-arch,16
dhcp-boot=tag:ipxe,${origin}${scriptPath}?mac=\${netX/mac}
dhcp-boot=tag:!ipxe,tag:uefi,${bootPrograms.uefi}
dhcp-boot=tag:!ipxe,tag:uefi-http,${origin}${uefiProgramPath}
dhcp-option-force=tag:!ipxe,tag:uefi-http,option:vendor-class,HTTPClient
dhcp-boot=tag:!ipxe,tag:!uefi,tag:!uefi-http,${bootPrograms.bios}
# iPXE's option 176 (no ProxyDHCP): it need not wait for the answer of a second boot server.
dhcp-option=tag:ipxe,encap:175,176,1b

enable-tftp=${nic}
tftp-root=${path('TFTP root', config.tftpRoot)}
`;
}

/** The file of static hosts, one line each, in the order of their MAC addresses. */
export function hostsFile(hosts: StaticHost[]): string {
  const lines = hosts.map(({ mac, address, hostname }) => {
    const parts = [
      inSet('MAC address', mac.toLowerCase(), 'must be like 52:54:00:12:34:56', /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/),
    ];
    if (address !== undefined) parts.push(ipv4('address of a static host', address));
    if (hostname !== undefined) {
      // All digits would be a lease time for dnsmasq.
      parts.push(
        inSet('host name', hostname, 'must be a host name', /^(?!\d+$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/i),
      );
    }
    return `${parts.join(',')}\n`;
  });
  return lines.sort().join('');
}
