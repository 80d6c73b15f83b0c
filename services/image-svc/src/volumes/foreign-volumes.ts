import { M2Error } from '@m2/contracts';

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
