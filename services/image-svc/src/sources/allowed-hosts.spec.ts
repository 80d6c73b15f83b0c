import { describe, expect, it } from 'vitest';
import { AllowedHosts } from './allowed-hosts.js';

const forbidden = { code: 'image.source_forbidden' };

/** A resolver that knows one name, and counts how often it is asked. */
function resolver(...addresses: string[]) {
  const asked: string[] = [];
  const resolve = async (host: string) => {
    asked.push(host);
    return addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
  };
  return { asked, resolve };
}

describe('AllowedHosts', () => {
  it('allows nothing when nothing is listed, and asks no DNS for it', async () => {
    const { asked, resolve } = resolver('93.184.215.14');
    for (const host of ['images.example.org', '93.184.215.14', '[2606:4700::1]', 'localhost']) {
      await expect(new AllowedHosts([], resolve).addressOf(host)).rejects.toMatchObject(forbidden);
    }
    expect(asked).toEqual([]);
  });

  it('allows a listed name, in any case and with the final dot of DNS, and no other', async () => {
    const hosts = new AllowedHosts(['Images.Example.org'], resolver('93.184.215.14').resolve);
    for (const host of ['images.example.org', 'IMAGES.example.org', 'images.example.org.']) {
      expect(await hosts.addressOf(host)).toEqual({ address: '93.184.215.14', family: 4 });
    }
    for (const host of ['example.org', 'evil-images.example.org', 'images.example.org.evil.net']) {
      await expect(hosts.addressOf(host)).rejects.toMatchObject(forbidden);
    }
  });

  it('allows names below a listed domain', async () => {
    const hosts = new AllowedHosts(['*.example.org'], resolver('93.184.215.14').resolve);
    expect(await hosts.addressOf('a.b.example.org')).toMatchObject({ family: 4 });
    for (const host of ['example.org', 'evilexample.org']) {
      await expect(hosts.addressOf(host)).rejects.toMatchObject(forbidden);
    }
  });

  it.each(
    [
      '127.0.0.1 127.8.8.8 0.0.0.0 10.0.0.1 172.31.255.255 192.168.1.1 169.254.169.254 100.64.0.1 224.0.0.1',
      '255.255.255.255 ::1 :: fe80::1 fe80::1%eth0 fd00::1 ff02::1 ::ffff:127.0.0.1 ::ffff:a9fe:a9fe 64:ff9b::7f00:1',
      '2002:7f00:1:: 2001:db8::1',
    ].flatMap((line) => line.split(' ')),
  )('does not let a listed name lead to %s', async (address) => {
    const hosts = new AllowedHosts(['*'], resolver(address).resolve);
    await expect(hosts.addressOf('images.example.org')).rejects.toMatchObject(forbidden);
  });

  it('does not take such an address in a URL either', async () => {
    const hosts = new AllowedHosts(['*']);
    // As the URL parser writes http://2130706433/, http://0x7f.1/ and http://[::ffff:127.0.0.1]/.
    for (const url of ['http://2130706433/', 'http://0x7f.1/', 'http://[::ffff:127.0.0.1]/', 'http://[::1]/']) {
      await expect(hosts.addressOf(new URL(url).hostname)).rejects.toMatchObject(forbidden);
    }
  });

  it('takes the usable one of several addresses', async () => {
    const hosts = new AllowedHosts(['*'], resolver('127.0.0.1', '2606:4700::1111').resolve);
    expect(await hosts.addressOf('images.example.org')).toEqual({ address: '2606:4700::1111', family: 6 });
  });

  it('allows an address in a listed range, special or not, by whatever name', async () => {
    const hosts = new AllowedHosts(['10.1.0.0/16', 'fd00:1::/32', '127.0.0.1'], resolver('10.1.2.3').resolve);
    expect(await hosts.addressOf('mirror.lan')).toEqual({ address: '10.1.2.3', family: 4 });
    expect(await hosts.addressOf('127.0.0.1')).toEqual({ address: '127.0.0.1', family: 4 });
    expect(await hosts.addressOf('[::ffff:10.1.2.3]')).toEqual({ address: '10.1.2.3', family: 4 });
    expect(await hosts.addressOf('[fd00:1::5]')).toEqual({ address: 'fd00:1::5', family: 6 });
    for (const host of ['127.0.0.2', '10.2.0.1', '[fd00:2::5]']) {
      await expect(hosts.addressOf(host)).rejects.toMatchObject(forbidden);
    }
  });

  it('says that a name has no address', async () => {
    const hosts = new AllowedHosts(['*'], () => Promise.reject(new Error('ENOTFOUND')));
    await expect(hosts.addressOf('nowhere.example')).rejects.toMatchObject({ code: 'image.source_unreachable' });
  });
});
