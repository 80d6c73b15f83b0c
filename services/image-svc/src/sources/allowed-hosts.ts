import type { LookupAddress } from 'node:dns';
import { lookup } from 'node:dns/promises';
import { BlockList, isIP } from 'node:net';
import { ImageError } from '@m2/storage';

export type Resolve = (host: string) => Promise<LookupAddress[]>;

/**
 * The servers that images may be fetched from. An entry is a host name (`images.example.org`), all names below one (`*.example.org`, or `*`
 * for any), or an address range (`10.1.0.0/16`, or one address). An address in a listed range is allowed under any name; a listed name may
 * resolve to public addresses only.
 */
export class AllowedHosts {
  private readonly names: string[];
  private readonly ranges: Ranges;

  constructor(
    entries: readonly string[],
    private readonly resolve: Resolve = (host) => lookup(host, { all: true }),
  ) {
    this.names = entries.filter((entry) => !isRange(entry)).map((entry) => entry.toLowerCase());
    this.ranges = new Ranges(entries.filter(isRange));
  }

  /**
   * The address to connect to for a URL's `hostname`. The name is resolved once, and the caller connects to this address: a second DNS
   * query could give another one. Errors: `image.source_forbidden`, `image.source_unreachable`.
   */
  async addressOf(hostname: string): Promise<LookupAddress> {
    const host = hostname
      .replace(/^\[(.*)\]$/, '$1')
      .replace(/\.$/, '')
      .toLowerCase();
    const literal = isIP(host);
    const named = this.names.some((name) => (name.startsWith('*') ? host.endsWith(name.slice(1)) : host === name));
    // No DNS query for a name that no answer could make allowed.
    const hopeless = literal === 0 && !named && this.ranges.empty;
    const addresses = literal ? [{ address: host, family: literal }] : hopeless ? [] : await this.resolveName(host);
    for (const it of addresses.map(unmapped)) {
      if (this.ranges.have(it) || (named && !special.have(it))) return it;
    }
    throw new ImageError(
      'image.source_forbidden',
      `Images may not be fetched from ${host}, or not from where its name leads. Use an allowed host, or ask the operator to allow it.`,
    );
  }

  private async resolveName(host: string): Promise<LookupAddress[]> {
    try {
      return await this.resolve(host);
    } catch (error) {
      throw new ImageError('image.source_unreachable', `The host ${host} has no address. Check the URL.`, {
        cause: error,
      });
    }
  }
}

function isRange(entry: string): boolean {
  return isIP(entry.split('/')[0] ?? '') !== 0;
}

/** Address ranges. One list per family: BlockList alone lets an IPv6 range that covers ::ffff:0:0/96 match all of IPv4. */
class Ranges {
  readonly empty: boolean;
  private readonly lists = { 4: new BlockList(), 6: new BlockList() };

  constructor(ranges: readonly string[]) {
    this.empty = ranges.length === 0;
    for (const range of ranges) {
      const [address = '', bits] = range.split('/');
      const [family, type] = isIP(address) === 6 ? ([6, 'ipv6'] as const) : ([4, 'ipv4'] as const);
      if (bits === undefined) this.lists[family].addAddress(address, type);
      else this.lists[family].addSubnet(address, Number(bits), type);
    }
  }

  have({ address, family }: LookupAddress): boolean {
    return family === 6 ? this.lists[6].check(address, 'ipv6') : this.lists[4].check(address, 'ipv4');
  }
}

/**
 * Addresses of this machine, of its own networks, or of nothing (IANA's special-purpose address registries). Without this list, whoever
 * owns the DNS of a listed name could reach our internal network.
 */
const special = new Ranges(
  [
    '0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24',
    '192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4',
    // Everything except global unicast (2000::/3), so loopback, unique local, link-local, multicast and NAT64. Of global unicast: Teredo
    // and other protocols, documentation, 6to4.
    '::/3 4000::/2 8000::/1 2001::/23 2001:db8::/32 2002::/16 3fff::/20',
  ].flatMap((line) => line.split(' ')),
);

/** `::ffff:127.0.0.1` is 127.0.0.1. A scope (`fe80::1%eth0`) does not change the range, and BlockList cannot parse it. */
function unmapped({ address, family }: LookupAddress): LookupAddress {
  if (family !== 6) return { address, family };
  const canonical = new URL(`http://[${address.split('%')[0]}]`).hostname.slice(1, -1);
  const words = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(canonical);
  if (!words) return { address: canonical, family };
  const [high, low] = [Number.parseInt(words[1] ?? '', 16), Number.parseInt(words[2] ?? '', 16)];
  return { address: [high >> 8, high & 255, low >> 8, low & 255].join('.'), family: 4 };
}
