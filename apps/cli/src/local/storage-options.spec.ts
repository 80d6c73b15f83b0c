import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { CliError } from '../errors.js';
import { Person } from '../test/person.js';
import { addStorageOptions, type StorageFlags, takeStorage } from './storage-options.js';

const given = (...words: string[]) => {
  const command = addStorageOptions(new Command('up')).option('--port <port>');
  return takeStorage(command.parse(words, { from: 'user' }).opts<StorageFlags & { port?: string }>(), '/home/ann');
};

describe('the options about storage', () => {
  it.each([
    [[], undefined],
    [['--storage', 'file'], { kind: 'file' }],
    [['--storage', 'ceph'], { kind: 'ceph' }],
    [['--ceph-conf', 'ceph.conf'], { kind: 'ceph', conf: '/home/ann/ceph.conf' }],
    [
      [
        '--storage',
        'ceph',
        '--ceph-conf',
        '/etc/c',
        '--ceph-user',
        'u',
        '--ceph-image-pool',
        'i',
        '--ceph-disk-pool',
        'd',
      ],
      { kind: 'ceph', conf: '/etc/c', user: 'u', imagePool: 'i', diskPool: 'd' },
    ],
    [['--zfs-dataset', 'tank/m2'], { kind: 'zfs', dataset: 'tank/m2' }],
  ])('%j', (words, storage) => {
    expect(given(...words, '--port', '1')).toEqual({ storage, rest: { port: '1' } });
  });

  it.each([
    ['--storage', 'zfs'],
    ['--storage', 'file', '--ceph-conf', '/etc/c'],
    ['--storage', 'ceph', '--zfs-dataset', 'tank/m2'],
    ['--storage', 'ceph', '--ceph-user', 'u'],
    ['--ceph-disk-pool', 'd'],
  ])('refuse %s %s %s %s', (...words) => {
    expect(() => given(...words.filter(Boolean))).toThrow(CliError);
  });

  it('are refused before anything is started', async () => {
    const person = new Person();
    const { code, err } = await person.m2(['up', '--storage', 'zfs']);
    expect({ code, err }).toEqual({ code: 2, err: expect.stringContaining('--zfs-dataset') as string });
    expect((await person.m2(['up', '--storage', 'nfs'])).code).toBe(2);
  });
});
