import { M2Error, type Permission, type Role, rolesThatMay } from '@m2/contracts';

/** Who asks, as an authenticator found it. */
export interface Actor {
  token: string;
  name: string;
  role: Role;
  /** A token of a project reaches that project only; null: all projects. */
  project: string | null;
}

const may = ({ role }: Actor, permission: Permission): boolean => rolesThatMay(permission).includes(role);

/** Throws M2Error `auth.forbidden`, with `why` as its sentence. */
export function demand(actor: Actor, permission: Permission, why?: string): void {
  if (may(actor, permission)) return;
  const roles = rolesThatMay(permission).join(' or ');
  throw new M2Error('auth.forbidden', why ?? `This needs the role ${roles}; the token has ${actor.role}`);
}
