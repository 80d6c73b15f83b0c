import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { resolveSettings, savedSettings } from './options.js';
import { ensureSecrets, readSecret, secretFiles } from './secrets.js';
import { defaultState, ensureState, findState, weAreRoot } from './state.js';

let dir: string;
beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), 'm2d-')));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe('the state directory', () => {
  it('is where M2_STATE says, else in the user’s state directory', () => {
    expect(defaultState({ M2_STATE: '/srv/m2', XDG_STATE_HOME: '/x' })).toBe('/srv/m2');
    expect(defaultState({ XDG_STATE_HOME: '/x' })).toBe('/x/m2');
    expect(defaultState({})).toMatch(weAreRoot() ? /^\/var\/lib\/m2$/ : /\/\.local\/state\/m2$/);
  });

  it('has one path, whichever way one comes to it', () => {
    symlinkSync(dir, `${dir}-link`);
    expect(ensureState(`${dir}-link`).state).toBe(dir);
    rmSync(`${dir}-link`);
  });

  it('lets nobody else look inside', () => {
    const paths = ensureState(dir);
    expect(statSync(dir).mode & 0o777).toBe(weAreRoot() ? 0o711 : 0o700);
    for (const path of [paths.secrets, paths.logs, paths.storage]) expect(statSync(path).mode & 0o077).toBe(0);
  });

  it('does not take over a directory that holds something else, nor change it', () => {
    writeFileSync(join(dir, 'thesis.txt'), '');
    expect(() => ensureState(dir)).toThrow(/thesis\.txt/);
    expect(existsSync(join(dir, 'run'))).toBe(false);
  });

  it('may have a file system mounted for the disks before the first start', () => {
    mkdirSync(join(dir, 'storage'));
    expect(ensureState(dir).storage).toBe(join(dir, 'storage'));
  });

  it('is not made by looking for it', () => {
    expect(findState(join(dir, 'none'))).toBeUndefined();
    expect(findState(dir)).toBeUndefined();
    expect(existsSync(join(dir, 'run'))).toBe(false);
  });
});

describe('secrets', () => {
  it('are made once, each its own, for the owner only', () => {
    const paths = ensureState(dir);
    ensureSecrets(paths);
    const files = secretFiles(paths);
    const first = [files.adminToken, files.secretKey, files.database('image'), files.nats('image')].map(readSecret);
    expect(new Set(first).size).toBe(4);
    for (const secret of first) expect(secret).toMatch(/^[0-9a-f]{64}$/);
    expect(statSync(files.secretKey).mode & 0o777).toBe(0o600);
    ensureSecrets(paths);
    expect(readSecret(files.secretKey)).toBe(first[1]);
  });
});

describe('settings', () => {
  it('are remembered, and what is given now wins', () => {
    const paths = ensureState(dir);
    expect(resolveSettings(paths, {}).port).toBe(7400);
    resolveSettings(paths, { port: 9000, advertise: '10.0.2.2' });
    expect(resolveSettings(paths, { port: 9100, advertise: undefined })).toMatchObject({
      port: 9100,
      advertise: '10.0.2.2',
    });
    expect(savedSettings(paths).port).toBe(9100);
  });

  it.each([
    [{ port: 65_500 }, /port/],
    [{ port: 80 }, /port/],
    [{ listen: '::1' }, /listen/],
    [{ importDirectories: ['relative'] }, /importDirectories/],
    [{ importDirectories: ['/a:/b'] }, /importDirectories/],
    [{ importHosts: ['a,b'] }, /importHosts/],
    [{ dhcp: { interface: 'br0', range: '$(reboot)' } }, /dhcp/],
  ])('refuse %j, and do not remember it', (given, message) => {
    const paths = ensureState(dir);
    expect(() => resolveSettings(paths, given)).toThrow(message);
    expect(savedSettings(paths).port).toBe(7400);
  });

  it('say so when their file was damaged', () => {
    const paths = ensureState(dir);
    writeFileSync(paths.config, '{');
    expect(() => resolveSettings(paths, {})).toThrow(/config\.json/);
  });
});
