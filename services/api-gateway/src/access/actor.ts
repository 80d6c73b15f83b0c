import type { Role } from '@m2/contracts';

/** Who asks: the token that came with a request. */
export interface Actor {
  token: string;
  name: string;
  role: Role;
  /** A token of a project reaches that project only; null: all projects. */
  project: string | null;
}
