import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loginPath } from '../config/login-file.js';
import { exitCodes } from '../exit-codes.js';
import { FakeGateway, refuse, samples } from '../test/gateway.js';
import { Person } from '../test/person.js';
import { start } from '../test/setup.js';

describe('login', () => {
  it('keeps the address and the token in a file of mode 0600, once the token has proven good', async () => {
    const gateway = (await FakeGateway.start()).on(
      'GET /v1/whoami',
      refuse('auth.invalid', 'no'),
      () => samples.whoami,
    );
    const person = new Person();
    expect((await person.m2(['login', gateway.url], 'wrong\n')).code).toBe(exitCodes.notAuthorised);
    await expect(stat(loginPath(person))).rejects.toThrow('ENOENT');

    expect((await person.m2(['login', `${gateway.url}/`], 'right\n')).code).toBe(0);
    expect((await stat(loginPath(person))).mode & 0o777).toBe(0o600);
    expect((await person.m2(['whoami'])).code).toBe(0);
    expect(gateway.seen.map(({ headers }) => headers.authorization)).toEqual([
      'Bearer wrong',
      'Bearer right',
      'Bearer right',
    ]);

    gateway.on('GET /v1/projects/lab', () => samples.project);
    expect((await person.m2(['project', 'use', 'lab'])).code).toBe(0);
    expect(JSON.parse(await readFile(loginPath(person), 'utf8'))).toEqual({
      url: gateway.url,
      token: 'right',
      project: 'lab',
    });

    expect((await person.m2(['logout'])).code).toBe(0);
    expect((await person.m2(['whoami'])).code).toBe(exitCodes.unreachable);
  });

  it('that was never made keeps what project use chose, when it is ended', async () => {
    const { gateway, person } = await start();
    gateway.on('GET /v1/projects/lab', () => samples.project);
    expect((await person.m2(['project', 'use', 'lab'])).code).toBe(0);
    expect(await person.m2(['logout'])).toMatchObject({ code: 0, err: 'There was no login.\n' });
    expect(JSON.parse(await readFile(loginPath(person), 'utf8'))).toEqual({ project: 'lab' });
  });

  it('reads the token from a terminal without showing it', async () => {
    const gateway = (await FakeGateway.start()).on('GET /v1/whoami', () => samples.whoami);
    const { code, err, out } = await new Person({ terminal: true }).m2(
      ['login', gateway.url],
      'sexret\u007f\u007f\u007f\u007fcret\r',
    );
    expect(code).toBe(0);
    expect(gateway.seen[0]?.headers.authorization).toBe('Bearer secret');
    expect(err + out).not.toContain('cret');
  });
});

describe('the embedded installation', () => {
  it('is found in its state directory, with its admin token', async () => {
    const gateway = (await FakeGateway.start()).on('GET /v1/whoami', () => samples.whoami);
    const person = new Person();
    await writeFile(join(person.home, 'config.json'), JSON.stringify({ port: Number(new URL(gateway.url).port) }));
    expect((await person.m2(['whoami', '--state', person.home])).code).toBe(exitCodes.notAuthorised);
    await writeFile(join(person.home, 'admin-token'), 'admin-token\n', { mode: 0o600 });
    expect((await person.m2(['whoami', '--state', person.home])).code).toBe(0);
    expect(gateway.seen[0]?.headers.authorization).toBe('Bearer admin-token');
  });
});
