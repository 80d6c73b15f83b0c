import { describe, expect, it } from 'vitest';
import { json, samples } from '../test/gateway.js';
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

  it('never has a way to give the password as an argument', async () => {
    const { person } = await start();
    const { out } = await person.m2(['node', 'register', '--help']);
    expect(out).toContain('--bmc-password-file');
    expect(out).not.toMatch(/--bmc-password[ =]/);
  });
});
