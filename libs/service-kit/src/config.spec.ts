import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { baseConfig, ConfigError, loadConfig } from './config.js';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'm2-config-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const key = 'ab'.repeat(32);
const good = { M2_DATABASE_URL: 'postgres://h/m2', M2_NATS_URL: 'nats://127.0.0.1:4222', M2_SECRET_KEY: key };
const file = (name: string, text: string) => {
  writeFileSync(join(directory, name), text);
  return join(directory, name);
};
const refusal = (env: NodeJS.ProcessEnv, schema: z.ZodObject = baseConfig): string => {
  try {
    loadConfig(schema, env);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as Error).message;
  }
  throw new Error('it was accepted');
};

describe('the configuration', () => {
  it('comes from the environment, and has defaults', () => {
    const config = loadConfig(baseConfig, { ...good, M2_OPS_LISTEN: '0.0.0.0:9000', M2_DATABASE_POOL_SIZE: '7' });
    expect(config).toMatchObject({
      databaseUrl: 'postgres://h/m2',
      databasePoolSize: 7,
      opsListen: { host: '0.0.0.0', port: 9000 },
      logLevel: 'info',
    });
    expect(loadConfig(baseConfig, good).opsListen).toEqual({ host: '127.0.0.1', port: 0 });
  });

  it('comes from a JSON file, over which the environment wins', () => {
    const path = file(
      'm2.json',
      JSON.stringify({ databaseUrl: 'postgres://file/m2', logLevel: 'warn', somebodyElses: 1 }),
    );
    const config = loadConfig(baseConfig, { ...good, M2_CONFIG: path });
    expect([config.databaseUrl, config.logLevel]).toEqual(['postgres://h/m2', 'warn']);
  });

  it('takes a secret from a file, without the line end of who wrote it; the variable itself wins', () => {
    const path = file('password', 'hunter2\n');
    expect(loadConfig(baseConfig, { ...good, M2_DATABASE_PASSWORD_FILE: path }).databasePassword).toBe('hunter2');
    const both = { ...good, M2_DATABASE_PASSWORD_FILE: path, M2_DATABASE_PASSWORD: 'other' };
    expect(loadConfig(baseConfig, both).databasePassword).toBe('other');
  });

  it('that is wrong is told of as a whole, by the names that one sets', () => {
    const message = refusal({ M2_NATS_URL: 'http://x', M2_DATABASE_POOL_SIZE: 'many', M2_OPS_LISTEN: '9000' });
    for (const line of [
      /M2_DATABASE_URL: is not set/,
      /M2_SECRET_KEY: is not set/,
      /M2_NATS_URL: .*nats:/,
      /M2_DATABASE_POOL_SIZE: must be a number/,
      /M2_OPS_LISTEN: must be HOST:PORT/,
      /M2_CONFIG/,
    ])
      expect(message).toMatch(line);
    expect(refusal({ ...good, M2_DATABASE_POOL_SIZE: '0' })).toMatch(/M2_DATABASE_POOL_SIZE: must be at least \d\n/);
    expect(refusal({ ...good, M2_LOG_LEVEL: 'loud' })).toContain('M2_LOG_LEVEL: must be one of trace,');
  });

  it('that is wrong is told of without the value, which may be a secret', () => {
    const message = refusal({ ...good, M2_SECRET_KEY: 'hunter2hunter2', M2_DATABASE_URL: 'mysql://root:hunter2@h/m2' });
    expect(message).toMatch(/M2_SECRET_KEY: must be 64 hexadecimal digits/);
    expect(message).not.toContain('hunter2');
  });

  it('names the file that cannot be read, or is no JSON object', () => {
    const missing = join(directory, 'missing');
    expect(refusal({ ...good, M2_CONFIG: missing })).toContain(`${missing} (named by M2_CONFIG) cannot be read`);
    expect(refusal({ ...good, M2_SECRET_KEY: undefined, M2_SECRET_KEY_FILE: missing })).toContain('M2_SECRET_KEY_FILE');
    for (const text of ['{', '[]', '7'])
      expect(refusal({ ...good, M2_CONFIG: file('bad.json', text) })).toContain('is not a JSON object');
  });

  it('of a service is checked as a whole', () => {
    const schema = baseConfig.extend({ one: z.string().optional(), other: z.string().optional() });
    const both = schema.refine(({ one, other }) => !one === !other, { path: ['other'], message: 'goes with M2_ONE' });
    expect(refusal({ ...good, M2_ONE: 'x' }, both)).toMatch(/M2_OTHER: /);
    expect(loadConfig(both, { ...good, M2_ONE: 'x', M2_OTHER: 'y' })).toMatchObject({ one: 'x', other: 'y' });
  });
});
