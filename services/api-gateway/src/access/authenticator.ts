import type { Actor } from './actor.js';

/** What a request brought to show who it is from. */
export interface Credentials {
  /** HTTP's `Authorization` (RFC 9110, section 11.6.2), or what another door has in its place. */
  authorization: string | undefined;
}

/** One way to find out who asks. */
export interface Authenticator {
  /** What HTTP's `WWW-Authenticate` tells who brought nothing, or nothing good (RFC 9110, section 11.6.1). */
  readonly challenge: string;
  /** Undefined when the credentials are not of this kind. Throws M2Error `auth.invalid` when they are, and are not good. */
  authenticate(credentials: Credentials): Promise<Actor | undefined>;
}

/** The authenticators of this gateway, a list; the first one that knows the kind of the credentials decides. */
export const AUTHENTICATORS = Symbol('m2 authenticators');
