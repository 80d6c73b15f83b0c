import { describe, expect, it } from 'vitest';
import { takeInventory } from '../inventory.js';
import { ask } from '../door.js';
import type { TestInstallation } from '../installation.js';

const badNames: unknown[] = [
  '../etc',
  'a/../b',
  'a..b',
  './a',
  'a/b',
  'a\nb',
  'a\r\nset x',
  'a\u0000b',
  'a"b',
  "a'b",
  'a`b',
  'a\\b',
  '${net0/mac}',
  '$(reboot)',
  'a;b',
  'a&&b',
  'a|b',
  'a%2fb',
  'a b',
  ' a',
  '-a',
  'a-',
  'A',
  'ä',
  '\u202eabc',
  '',
  'a'.repeat(64),
  '01234567-0123-7123-8123-0123456789ab'.slice(0, 20),
  7,
  true,
  null,
  ['a'],
  { a: 'b' },
];

const bmc = { address: '127.0.0.1', port: 9, user: 'admin', password: 'secret' };
const nics = (name: unknown) => [{ label: name, mac: '52:54:00:00:00:01' }];

/** Every field of the API that takes a name. */
const fields: { field: string; path: string; body: (name: unknown) => object }[] = [
  { field: 'project', path: '/v1/projects', body: (name) => ({ name }) },
  { field: 'token', path: '/v1/tokens', body: (name) => ({ name, role: 'auditor' }) },
  { field: "token's project", path: '/v1/tokens', body: (project) => ({ name: 't', role: 'member', project }) },
  { field: 'node', path: '/v1/nodes', body: (name) => ({ name, nics: nics('eth0'), bmc }) },
  { field: 'nic', path: '/v1/nodes', body: (name) => ({ name: 'n', nics: nics(name), bmc }) },
  {
    field: 'image',
    path: '/v1/projects/demo/images',
    body: (name) => ({ name, source: { kind: 'file', path: '/nowhere' } }),
  },
  { field: 'disk', path: '/v1/projects/demo/disks', body: (name) => ({ name, image: 'golden' }) },
  { field: "disk's image", path: '/v1/projects/demo/disks', body: (image) => ({ name: 'd', image }) },
  {
    field: "provision's node",
    path: '/v1/projects/demo/provisions',
    body: (node) => ({ node, image: 'golden' }),
  },
  {
    field: "provision's nic",
    path: '/v1/projects/demo/provisions',
    body: (nic) => ({ node: 'node-1', nic, image: 'golden' }),
  },
  {
    field: "provision's image",
    path: '/v1/projects/demo/provisions',
    body: (image) => ({ node: 'node-1', image }),
  },
  {
    field: "provision's disk",
    path: '/v1/projects/demo/provisions',
    body: (disk) => ({ node: 'node-1', disk }),
  },
  {
    field: "provision's new disk",
    path: '/v1/projects/demo/provisions',
    body: (diskName) => ({ node: 'node-1', image: 'golden', diskName }),
  },
  {
    field: "provision's network",
    path: '/v1/projects/demo/provisions',
    body: (network) => ({ node: 'node-1', image: 'golden', network }),
  },
];

const paths = ['/v1/projects/NAME', '/v1/projects/demo/images/NAME', '/v1/projects/demo/disks/NAME', '/v1/nodes/NAME'];

export function describeBadNames(installation: () => TestInstallation): void {
  describe('a name that is none', () => {
    it.each(fields)('of a $field: request.invalid, and nothing is made', async ({ path, body }) => {
      const before = await takeInventory(installation());
      const accepted: unknown[] = [];
      for (const name of badNames) {
        const { status, code } = await ask(installation(), 'POST', path, { body: body(name) });
        if (status !== 400 || code !== 'request.invalid') accepted.push({ name, status, code });
      }
      expect(accepted).toEqual([]);
      expect(await takeInventory(installation())).toEqual(before);
    });

    it.each(paths)('in %s: a clear refusal', async (path) => {
      const unclear: unknown[] = [];
      for (const name of badNames.filter((name) => typeof name === 'string' && name !== '')) {
        const url = path.replace('NAME', encodeURIComponent(name as string));
        const { status, code } = await ask(installation(), 'GET', url);
        if (![400, 404].includes(status) || code === undefined) unclear.push({ name, status, code });
      }
      expect(unclear).toEqual([]);
    });
  });
}
