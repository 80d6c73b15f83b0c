import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { serviceNames } from '@m2/contracts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { settings } from '../apps/supervisor/src/options.js';
import { serviceMains, serviceSpecs } from '../apps/supervisor/src/services.js';
import { pathsOf } from '../apps/supervisor/src/state.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const compose = readFileSync(join(root, 'docker-compose.yml'), 'utf8');
/** The text of one service in the file. */
const section = (name: string) => compose.match(new RegExp(`^  ${name}:\\n(?:    .*\\n|\\n)+`, 'm'))?.[0] ?? '';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'm2c-'));
  mkdirSync(join(dir, 'secrets'));
  cpSync(join(root, 'deploy/make-secrets'), join(dir, 'make-secrets'));
  execFileSync(join(dir, 'make-secrets'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe('docker-compose.yml', () => {
  it.each(serviceNames)('gives %s the same configuration as the embedded default does', (name) => {
    const given = serviceSpecs(pathsOf('/state'), settings.parse({}), serviceMains, {})[name].env;
    const wanted = Object.keys(given).filter((key) => /^M2_(?!SUPERVISED|OTLP)/.test(key));
    const common = compose.slice(0, compose.indexOf('\nservices:'));
    for (const key of wanted) expect(`${common}${section(name)}`).toContain(` ${key}: `);
    expect(section(name)).toContain(`postgres://m2_${name}@`);
    expect(section(name)).toContain(`target: ${name} }`);
    expect(section(name)).toContain(`source: nats-${name},`);
    expect(section(name)).toContain(`source: database-${name},`);
  });

  it('names files that are there', () => {
    const files = [...compose.matchAll(/\.\/(deploy\/[\w./-]+):/g)].map((match) => match[1] as string);
    expect(files.length).toBeGreaterThan(3);
    expect(files.filter((file) => !existsSync(join(root, file)))).toEqual([]);
    expect(
      readFileSync(join(root, 'deploy/docker/Dockerfile'), 'utf8').match(/AS (gateway|image|iscsi|boot|hil)\n/g),
    ).toHaveLength(5);
  });
});

describe('make-secrets', () => {
  it('makes every secret that docker-compose.yml names', () => {
    const named = [...compose.matchAll(/file: deploy\/secrets\/([\w.-]+)/g)].map((match) => match[1] as string);
    expect(readdirSync(join(dir, 'secrets')).sort()).toEqual(named.sort());
    expect(statSync(join(dir, 'secrets')).mode & 0o777).toBe(0o700);
    expect(readFileSync(join(dir, 'secrets/secret-key'), 'utf8')).toMatch(/^[0-9a-f]{64}$/);
  });

  it('makes them once', () => {
    const all = () => readdirSync(join(dir, 'secrets')).map((name) => readFileSync(join(dir, 'secrets', name), 'utf8'));
    const before = all();
    execFileSync(join(dir, 'make-secrets'));
    expect(all()).toEqual(before);
  });

  it('makes the file that the NATS configuration includes', () => {
    cpSync(join(root, 'deploy/nats/nats.conf'), join(dir, 'nats.conf'));
    cpSync(join(dir, 'secrets/nats-passwords.conf'), join(dir, 'passwords.conf'));
    // -t: look at the configuration, and end. It fails when a variable has no value.
    expect(() => execFileSync('nats-server', ['-t', '-c', join(dir, 'nats.conf')], { stdio: 'pipe' })).not.toThrow();
    rmSync(join(dir, 'passwords.conf'));
    expect(() => execFileSync('nats-server', ['-t', '-c', join(dir, 'nats.conf')], { stdio: 'pipe' })).toThrow(
      /passwords/,
    );
  });
});
