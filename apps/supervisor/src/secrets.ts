import { serviceNames } from '@m2/contracts';
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Paths } from './state.js';

export const databaseAdmin = 'm2_admin';

/** The files of the secrets; every one is made at the first start and never changed. */
export const secretFiles = (paths: Paths) => ({
  adminToken: paths.adminToken,
  secretKey: join(paths.secrets, 'secret-key'),
  database: (role: string) => join(paths.secrets, `database-${role}`),
  nats: (service: string) => join(paths.secrets, `nats-${service}`),
});

/** Makes the secrets that are not there yet. */
export function ensureSecrets(paths: Paths): void {
  const files = secretFiles(paths);
  for (const file of [
    files.adminToken,
    files.secretKey,
    files.database(databaseAdmin),
    ...serviceNames.flatMap((service) => [files.database(service), files.nats(service)]),
  ])
    ensureSecret(file);
}

export const readSecret = (file: string): string => readFileSync(file, 'utf8').trim();

function ensureSecret(file: string): void {
  try {
    if (readSecret(file) !== '') return;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  writePrivate(file, `${randomBytes(32).toString('hex')}\n`);
}

/**
 * Replaces a file that only its owner may read: whole or not at all, and durably. A secret that a power cut takes away after something
 * was encrypted with it is lost for ever.
 */
export function writePrivate(file: string, content: string): void {
  const fresh = `${file}.new`;
  const descriptor = openSync(fresh, 'w', 0o600);
  try {
    writeSync(descriptor, content);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(fresh, file);
}
