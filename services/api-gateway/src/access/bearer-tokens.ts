import { M2Error } from '@m2/contracts';
import { Inject, Injectable } from '@nestjs/common';
import type { Actor } from './actor.js';
import type { Authenticator, Credentials } from './authenticator.js';
import { Tokens } from './tokens.js';

/** RFC 6750, section 2.1: a token in the header, and nowhere else. */
@Injectable()
export class BearerTokens implements Authenticator {
  readonly challenge = 'Bearer';

  constructor(@Inject(Tokens) private readonly tokens: Tokens) {}

  async authenticate({ authorization }: Credentials): Promise<Actor | undefined> {
    const value = /^Bearer ([A-Za-z0-9\-._~+/]{1,256}=*)$/i.exec(authorization ?? '')?.[1];
    if (!value) return undefined;
    const actor = await this.tokens.actorOf(value);
    if (!actor) throw new M2Error('auth.invalid', 'The token is not known');
    return actor;
  }
}
