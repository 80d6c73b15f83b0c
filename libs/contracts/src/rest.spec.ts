import { describe, expect, it } from 'vitest';
import { bootReport } from './boot.js';
import { bmc, nodeSpec } from './hil.js';
import { imageSource } from './image.js';
import { provisionRequest, useCases } from './use-cases/index.js';

const fits = (schema: { safeParse(value: unknown): { success: boolean } }, value: unknown) =>
  schema.safeParse(value).success;

describe('a provision request', () => {
  it('names an image or a disk, and a new name only for a clone', () => {
    expect(provisionRequest.parse({ node: 'node-1', image: 'ubuntu' })).toEqual({
      node: 'node-1',
      image: 'ubuntu',
      waitFor: 'booted',
    });
    expect(fits(provisionRequest, { node: 'node-1', disk: 'web-1' })).toBe(true);
    expect(fits(provisionRequest, { node: 'node-1', image: 'ubuntu', diskName: 'web-1' })).toBe(true);
    for (const wrong of [
      { node: 'node-1' },
      { node: 'node-1', image: 'ubuntu', disk: 'web-1' },
      { node: 'node-1', disk: 'web-1', diskName: 'web-2' },
      { node: '../etc', image: 'ubuntu' },
      { node: 'node-1', image: 'ubuntu', waitFor: 'lunch' },
    ])
      expect([wrong, fits(provisionRequest, wrong)]).toEqual([wrong, false]);
  });
});

describe('a new token', () => {
  const body = useCases.tokenCreate.input;

  it('of a member belongs to a project, of an admin to none', () => {
    expect(fits(body, { name: 'ci', role: 'member', project: 'p1' })).toBe(true);
    expect(fits(body, { name: 'ci', role: 'member' })).toBe(false);
    expect(fits(body, { name: 'ci', role: 'admin' })).toBe(true);
    expect(fits(body, { name: 'ci', role: 'admin', project: 'p1' })).toBe(false);
    expect(fits(body, { name: 'ci', role: 'root' })).toBe(false);
  });
});

describe('the source of an image', () => {
  it('is a path or a web address', () => {
    expect(fits(imageSource, { kind: 'file', path: '/images/ubuntu.qcow2' })).toBe(true);
    expect(fits(imageSource, { kind: 'url', url: 'https://images.example.org/ubuntu.img?version=1' })).toBe(true);
  });

  it('is no other scheme, and holds no control characters, which neither a path nor PostgreSQL can take', () => {
    for (const url of [
      'file:///etc/shadow',
      'ftp://a/b',
      'gopher://a',
      'javascript:1',
      'HTTPS',
      '',
      'http://a/\0',
      'http://a/\n',
    ])
      expect([url, fits(imageSource, { kind: 'url', url })]).toEqual([url, false]);
    for (const path of ['', '/a\0b', '/a\nb'])
      expect([path, fits(imageSource, { kind: 'file', path })]).toEqual([path, false]);
  });
});

describe('how a node is powered', () => {
  const good = { driver: 'ipmi', address: '10.0.0.7', user: 'admin', password: 'secret' };

  it('has defaults', () => {
    expect(bmc.parse(good)).toEqual({ ...good, port: 623, cipherSuites: [17, 3] });
    for (const address of ['bmc-1.example.org', '192.0.2.1', 'fe80::1'])
      expect(fits(bmc, { ...good, address })).toBe(true);
  });

  it('never looks like an option of a program, and fits what IPMI keeps', () => {
    for (const wrong of [
      { address: '-oProxyCommand=x' },
      { address: 'a b' },
      { address: 'a;b' },
      { address: '' },
      { user: '-I' },
      { user: 'a b' },
      { password: 'x'.repeat(21) },
      { password: '' },
      { password: 'a\nb' },
      { port: 0 },
      { cipherSuites: [] },
      { cipherSuites: [0] },
    ])
      expect([wrong, fits(bmc, { ...good, ...wrong })]).toEqual([wrong, false]);
  });

  it('goes with at least one nic', () => {
    const spec = { name: 'node-1', nics: [{ label: 'eth0', mac: '52-54-00-AA-BB-CC' }], bmc: good };
    expect(nodeSpec.parse(spec).nics).toEqual([{ label: 'eth0', mac: '52:54:00:aa:bb:cc' }]);
    expect(fits(nodeSpec, { ...spec, nics: [] })).toBe(false);
  });
});

describe('what a node reports', () => {
  it('is short printable text, since it is shown to people and kept as JSON', () => {
    expect(bootReport.parse({ root: '/dev/sda1', boots: '3' })).toEqual({ root: '/dev/sda1', boots: 3 });
    for (const wrong of [{ marker: 'a\0b' }, { kernel: '\u001b[2J' }, { root: 'x'.repeat(257) }, { boots: -1 }])
      expect([wrong, fits(bootReport, wrong)]).toEqual([wrong, false]);
  });
});
