import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { ids, refuse, samples } from '../test/gateway.js';
import { Person } from '../test/person.js';
import { start } from '../test/setup.js';

const execute = promisify(execFile);

describe('m2 completion', () => {
  it.each(['bash', 'zsh', 'fish'])('for %s knows every command and option that help knows', async (shell) => {
    const person = new Person();
    const { code, out } = await person.m2(['completion', shell]);
    expect(code).toBe(0);
    for (const word of ['deprovision', 'set-bmc', 'completion', 'up', 'check']) expect(out).toContain(word);
    for (const option of ['delete-disk', 'cipher-suites', 'token-file', 'no-wait', 'watch'])
      expect(out).toContain(option);
    expect(out).not.toContain('passThrough');
  });

  it('for bash is a script that bash reads', async () => {
    const person = new Person();
    const file = join(person.home, 'm2.bash');
    await writeFile(file, (await person.m2(['completion', 'bash'])).out);
    expect(await execute('bash', ['-n', file])).toEqual({ stdout: '', stderr: '' });
  });

  it.each([
    [['m2', 'di'], ['disk']],
    [
      ['m2', 'disk', ''],
      [
        'list',
        'show',
        'create',
        'fork',
        'rename',
        'resize',
        'flatten',
        'tag',
        'tags',
        'untag',
        'rollback',
        'snapshot',
      ].concat(['download', 'delete', 'trash', 'restore']),
    ],
    [['m2', '--json', '--project', 'lab', 'disk', 'sh'], ['show']],
    [['m2', 'disk', 'show', ''], ['<disk>']],
    [['m2', 'disk', 'show', 'web-1', ''], []],
    [['m2', 'disk', 'create', 'x', '--image', ''], ['<image>']],
    [['m2', 'disk', 'rollback', 'web-1', ''], ['<tag>']],
    [['m2', 'disk', 'download', 'web-1', 'x', '--since', ''], ['<tag>']],
    [['m2', 'disk', 'restore', ''], ['<deleted-disk>']],
    [['m2', 'disk', 'resize', ''], ['<disk>']],
    [['m2', 'image', 'share', 'golden', '--with', ''], ['<project>']],
    [['m2', 'image', 'import', 'x', '--upload', 'spe'], ['spec.json']],
    [['m2', 'image', 'import', 'x', '--from-disk', ''], ['<disk>']],
    [['m2', 'image', 'download', 'golden', 'spe'], ['spec.json']],
    [['m2', 'fs'], ['fsck']],
    [['m2', 'logs', ''], ['<service>']],
    [
      ['m2', 'disk', 'create', 'x', '--s'],
      ['--size', '--state'],
    ],
    [
      ['m2', 'provision', ''],
      ['list', 'show', '<node>'],
    ],
    [
      ['m2', 'provision', 'node-1', '--wait', ''],
      ['ready', 'booted', 'none'],
    ],
    [
      ['m2', 'test', ''],
      ['unit', 'it', 'e2e', 'faults'],
    ],
    [
      ['m2', 'up', '--storage', ''],
      ['file', 'ceph', 'zfs'],
    ],
    [['m2', 'up', '--ceph-conf', 'spe'], ['spec.json']],
    [['m2', 'node', 'register', 'x', '-f', 'spe'], ['spec.json']],
  ])('for bash completes %j', async (words, expected) => {
    const person = new Person();
    const { out } = await person.m2(['completion', 'bash']);
    await writeFile(join(person.home, 'spec.json'), '{}');
    // In the place of m2: a function that says what it was asked for.
    const asked = 'm2() { [ "$1" = __complete ] && echo "<$2>"; }';
    const quoted = words.map((word) => `'${word}'`).join(' ');
    const last = `COMP_WORDS=(${quoted}); COMP_CWORD=${words.length - 1}; _m2; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const file = join(person.home, 'try.bash');
    await writeFile(file, `${out}\n${asked}\n${last}\n`);
    const { stdout } = await execute('bash', [file], { cwd: person.home });
    expect(stdout.split('\n').filter(Boolean).sort()).toEqual([...expected].sort());
  });
});

describe('m2 __complete', () => {
  it('offers names of the project that the line names', async () => {
    const { gateway, person } = await start();
    gateway.on('GET /v1/projects/other/disks', () => ({ items: [samples.disk, { ...samples.disk, name: 'web-2' }] }));
    const { code, out, err } = await person.m2(['__complete', 'disk', 'disk', 'show', '--project', 'other']);
    expect({ code, out, err }).toEqual({ code: 0, out: 'web-1\nweb-2\n', err: '' });
  });

  it('offers the tags of the disk that the line names, and the disks of the trash', async () => {
    const { gateway, person } = await start();
    gateway.on('GET /v1/projects/lab/disks/web-1/tags', () => ({ items: [samples.tag] }));
    gateway.on('GET /v1/projects/lab/disks', ({ query }) => ({
      items: query.get('trashed') === 'true' ? [{ ...samples.disk, name: 'gone' }] : [],
    }));
    for (const words of [
      ['disk', 'rollback', 'web-1'],
      ['--json', 'disk', 'untag', '--no-wait', 'web-1'],
      ['disk', 'create', 'x', '--disk', 'web-1', '--tag'],
      ['image', 'import', 'x', '--from-disk=web-1', '--tag'],
    ])
      expect([words, (await person.m2(['__complete', 'tag', ...words])).out]).toEqual([words, 'v1\n']);
    expect((await person.m2(['__complete', 'tag', 'image', 'import', 'x', '--tag'])).out).toBe('');
    expect((await person.m2(['__complete', 'deleted-disk', 'disk', 'restore'])).out).toBe(`gone\n${ids.disk}\n`);
  });

  it('offers the parts of the installation on this machine that have a log', async () => {
    const person = new Person();
    const logs = join(person.home, 'state', 'logs');
    await mkdir(logs, { recursive: true });
    for (const name of ['gateway.log', 'image.log', 'image.log.1']) await writeFile(join(logs, name), '');
    expect((await person.m2(['__complete', 'service', 'logs'])).out).toBe('gateway\nimage\n');
    expect((await person.m2(['__complete', 'service', '--state', 'nowhere', 'logs'])).out).toBe('');
  });

  it('is silent when something is wrong', async () => {
    const { gateway, person } = await start();
    gateway.on('GET /v1/nodes', refuse('auth.invalid', 'no'));
    const silent = { code: 0, out: '', err: '' };
    expect(await person.m2(['__complete', 'node'])).toEqual(silent);
    expect(await person.m2(['__complete', 'nonsense'])).toEqual(silent);
    expect(await new Person().m2(['__complete', 'node'])).toEqual(silent);
  });

  it('is no command for people', async () => {
    expect((await new Person().m2(['--help'])).out).not.toContain('__complete');
  });
});
