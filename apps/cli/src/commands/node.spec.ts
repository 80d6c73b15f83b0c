import { describe, expect, it } from 'vitest';
import { exitCodes } from '../exit-codes.js';
import { ids, json, samples } from '../test/gateway.js';
import { start } from '../test/setup.js';

const register = async (args: string[], input: string) => {
  const { gateway, person } = await start();
  gateway.on('POST /v1/nodes', (_seen, response) => json(response, 201, samples.node));
  const ran = await person.m2(['node', 'register', ...args], input);
  return { ...ran, body: gateway.asked('POST /v1/nodes')[0]?.body };
};

describe('node register', () => {
  it('takes the password of the BMC from standard input', async () => {
    const mac = '52-54-00-00-00-0A,data=52:54:00:00:00:0b';
    const args = ['node-1', '--mac', mac, '--bmc', '[fd00::7]:6230', '--bmc-user', 'admin', '--cipher-suites', '3'];
    const { code, body } = await register(args, 'pass word\n');
    expect(code).toBe(0);
    expect(body).toEqual({
      name: 'node-1',
      project: null,
      firmware: 'bios',
      nics: [
        { label: 'nic0', mac: '52:54:00:00:00:0a' },
        { label: 'data', mac: '52:54:00:00:00:0b' },
      ],
      bmc: { driver: 'ipmi', address: 'fd00::7', port: 6230, user: 'admin', password: 'pass word', cipherSuites: [3] },
    });
  });

  it('takes all of it as JSON, with options in the place of its values', async () => {
    const bmc = { address: '10.0.0.7', user: 'admin', password: 'secret' };
    const spec = { name: 'node-1', nics: [{ label: 'eth0', mac: '52:54:00:00:00:0a' }], bmc };
    const { code, body } = await register(['node-2', '-f', '-', '--firmware', 'uefi'], JSON.stringify(spec));
    expect(code).toBe(0);
    expect(body).toMatchObject({ ...spec, name: 'node-2', firmware: 'uefi', bmc });
  });

  it('asks for the password when all else is right, and not before', async () => {
    const args = ['node', 'register', 'node-1', '--bmc', '10.0.0.7', '--bmc-user', 'admin', '--mac'];
    const { gateway, person } = await start(true);
    gateway.on('GET /v1/whoami', () => ({ ...samples.whoami, role: 'member' }));
    for (const [mac, code] of [
      ['nonsense', 'request.invalid'],
      ['52:54:00:00:00:0a', 'auth.forbidden'],
    ] as const) {
      const { err } = await person.m2([...args, mac], 'secret\r');
      expect([err.includes(code), err.includes('BMC password')]).toEqual([true, false]);
    }
    gateway.on('GET /v1/whoami', () => samples.whoami);
    gateway.on('POST /v1/nodes', (_seen, response) => json(response, 201, samples.node));
    expect((await person.m2([...args, '52:54:00:00:00:0a'], 'secret\r')).err).toContain('BMC password: ');
    expect(gateway.asked('POST /v1/nodes')[0]?.body).toMatchObject({ bmc: { password: 'secret' } });
  });

  it('says every way to give a password that is missing', async () => {
    const args = ['node-1', '--mac', '52:54:00:00:00:0a', '--bmc', '10.0.0.7', '--bmc-user', 'admin'];
    expect((await register(args, '')).err).toContain(
      'on standard input, or name a file that holds it with --bmc-password-file',
    );
  });

  it('never has a way to give the password as an argument', async () => {
    const { person } = await start();
    const { out } = await person.m2(['node', 'register', '--help']);
    expect(out).toContain('--bmc-password-file');
    expect(out).not.toMatch(/--bmc-password[ =]/);
  });
});

describe('node mark-broken', () => {
  it('asks first, and says who goes on holding the node', async () => {
    const { gateway, person } = await start(true);
    gateway.on('GET /v1/nodes/node-1', () => ({ ...samples.node, holder: ids.provision }));
    const { err } = await person.m2(['node', 'mark-broken', 'node-1', '--reason', 'x'], 'n\n');
    expect(err).toContain(
      `Mark node node-1 broken, so that nobody gets it? Provision ${ids.provision} goes on holding it. [y/N]`,
    );
  });

  it('needs --yes where nobody can answer, and does not call it destruction', async () => {
    const { person } = await start();
    const { code, err } = await person.m2(['node', 'mark-broken', 'node-1', '--reason', 'x']);
    expect(code).toBe(exitCodes.usage);
    expect(err).toContain('--yes');
    expect(err).not.toContain('destroys');
  });
});

describe('node mark-repaired', () => {
  it.each([
    [null, true],
    [{ by: 'olga', reason: 'x', since: samples.node.createdAt }, false],
  ])('of a node that is broken: %j, says that it was not: %s', async (broken, says) => {
    const { gateway, person } = await start();
    gateway.on('GET /v1/nodes/node-1', () => ({ ...samples.node, broken }));
    gateway.on('POST /v1/nodes/node-1/mark-repaired', () => samples.node);
    const { code, err } = await person.m2(['node', 'mark-repaired', 'node-1', '--reason', 'x']);
    expect([code, err.includes('was not marked broken')]).toEqual([0, says]);
  });
});
