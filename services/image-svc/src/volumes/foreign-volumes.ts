import { M2Error } from '@m2/contracts';
import { StorageError } from '@m2/storage';

/**
 * Refuses volumes outside the pools (namespaces, datasets) that the operator allows. Whole path segments are compared, so that `vms` does
 * not open `vms-secret`. Throws M2Error `volume.forbidden`.
 */
export function assertForeign(allowed: readonly string[], volume: string): void {
  const segments = volume.split('@')[0]!.split('/');
  const inside = allowed.some((place) => {
    const parts = place.split('/');
    return segments.length > parts.length && parts.every((part, n) => part === segments[n]);
  });
  if (!inside || segments.some((segment) => segment === '' || segment === '.' || segment === '..'))
    throw new M2Error('volume.forbidden', `The volume "${volume}" is in no pool that tenants may use`);
}

/** Turns a storage error about a foreign volume into one of the catalogue's codes for the person who named the volume. */
export function foreignError(error: unknown): unknown {
  if (!(error instanceof StorageError)) return error;
  const { code, message } = error;
  if (code === 'storage.bad_name') return new M2Error('volume.forbidden', message, undefined, { cause: error });
  if (code === 'storage.exists_differently') return new M2Error('volume.exists', message, undefined, { cause: error });
  if (code === 'storage.not_found')
    return new M2Error('image.source_unreachable', message, undefined, { cause: error });
  return error;
}
