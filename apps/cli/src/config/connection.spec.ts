import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { exitCodes } from '../exit-codes.js';
import { Person } from '../test/person.js';
import { resolveConnection, stateDirectory } from './connection.js';
import { loginPath, readLogin, writeLogin } from './login-file.js';

const somebody = async (env: Record<string, string> = {}) => {
  const { home, env: own } = new Person({ env });
  const world = { env: own, home, cwd: home };
  await writeFile(join(home, 'token'), 'from-file\n');
  return { world, login: (login: object) => writeLogin(loginPath(world), login) };
};

const install = async (directory: string, port: number) => {
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, 'config.json'), JSON.stringify({ port, listen: '0.0.0.0' }));
  await writeFile(join(directory, 'admin-token'), 'of-admin\n', { mode: 0o600 });
};

describe('resolveConnection', () => {
  it('takes flags before the environment before the login before the installation', async () => {
    const { world, login } = await somebody();
    await install(join(world.home, 'state'), 7400);
    expect(await resolveConnection(world, {})).toEqual({
      url: 'http://127.0.0.1:7400',
      token: 'of-admin',
      from: 'state',
    });
    await login({ url: 'https://login', token: 'of-login' });
    expect(await resolveConnection(world, {})).toEqual({ url: 'https://login', token: 'of-login', from: 'login' });
    const env = { ...world.env, M2_URL: 'https://env', M2_TOKEN: 'of-env' };
    expect(await resolveConnection({ ...world, env }, {})).toEqual({
      url: 'https://env',
      token: 'of-env',
      from: 'M2_URL',
    });
    const flags = { url: 'https://flag/', tokenFile: 'token' };
    expect(await resolveConnection({ ...world, env }, flags)).toEqual({
      url: 'https://flag',
      token: 'from-file',
      from: '--url',
    });
  });

  it('takes a named state directory before everything that was not named now', async () => {
    const { world, login } = await somebody({ M2_URL: 'https://env' });
    await install(join(world.home, 'other'), 7500);
    await login({ url: 'https://login', token: 'of-login' });
    expect((await resolveConnection(world, { state: 'other' })).url).toBe('http://127.0.0.1:7500');
  });

  it('sends a remembered token to the address that it was remembered for, and to no other', async () => {
    const { world, login } = await somebody();
    await install(join(world.home, 'state'), 7400);
    await login({ url: 'https://login', token: 'of-login' });
    expect((await resolveConnection(world, { url: 'https://login/' })).token).toBe('of-login');
    expect((await resolveConnection(world, { url: 'https://evil' })).token).toBeUndefined();
    expect((await resolveConnection(world, { url: 'http://127.0.0.1:7400' })).token).toBeUndefined();
  });

  it('says what to do about a token that cannot be read', async () => {
    const { world } = await somebody({ M2_URL: 'https://env', M2_TOKEN_FILE: 'missing' });
    await expect(resolveConnection(world, {})).rejects.toMatchObject({
      code: 'cli.token_file',
      exitCode: exitCodes.notAuthorised,
    });
  });
});

describe('stateDirectory', () => {
  it('takes the flag, then M2_STATE, then the place of the platform', async () => {
    const world = { env: { M2_STATE: '/env', XDG_STATE_HOME: '/xdg' }, home: '/home/a', cwd: '/srv' };
    expect(await stateDirectory(world, 'here')).toBe('/srv/here');
    expect(await stateDirectory(world)).toBe('/env');
    expect(await stateDirectory({ ...world, env: { XDG_STATE_HOME: '/xdg' } })).toBe('/xdg/m2');
  });
});

describe('the login file', () => {
  it('is not used when others may read the token in it', async () => {
    const { world, login } = await somebody();
    await login({ url: 'https://login', token: 'of-login' });
    await chmod(loginPath(world), 0o644);
    await expect(readLogin(loginPath(world))).rejects.toMatchObject({ code: 'cli.login_file' });
  });

  it('says so when it is damaged', async () => {
    const { world, login } = await somebody();
    await login({ project: 'lab' });
    await writeFile(loginPath(world), '{"url": ');
    await expect(readLogin(loginPath(world))).rejects.toMatchObject({ code: 'cli.login_file' });
  });
});
