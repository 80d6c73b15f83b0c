import { M2Error, type AnyRoute } from '@m2/contracts';
import { type CanActivate, type ExecutionContext, Inject, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { M2Request } from '../door/request.js';
import { ROUTE } from '../door/serve.js';
import { Projects } from '../projects/projects.js';
import { Tokens } from './tokens.js';

/**
 * The one place that decides who may what, for every route. What has no entry in the catalogue of routes is refused, so a
 * controller that forgets about access serves nobody. A guard and not a middleware: it runs for the handler that will run, whatever
 * form the path came in.
 */
@Injectable()
export class AccessGuard implements CanActivate {
  constructor(
    @Inject(Reflector) private readonly reflector: Reflector,
    @Inject(Tokens) private readonly tokens: Tokens,
    @Inject(Projects) private readonly projects: Projects,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const route = this.reflector.get<AnyRoute | undefined>(ROUTE, context.getHandler());
    if (!route) throw new M2Error('request.not_found', 'This path is not served');
    if (route.allow === 'public') return true;

    const request = context.switchToHttp().getRequest<M2Request>();
    const actor = await this.tokens.actorOf(bearerToken(request.headers.authorization));
    if (!actor) throw new M2Error('auth.invalid', 'The token is not known');
    if (actor.role !== 'admin' && !route.allow.includes(actor.role))
      throw new M2Error(
        'auth.forbidden',
        `This needs the role ${[...route.allow, 'admin'].join(' or ')}; the token has ${actor.role}`,
      );
    request.actor = actor;

    const named = (request.params as Record<string, string>)['project'];
    if (named !== undefined) request.project = await this.projects.visible(named, actor);
    return true;
  }
}

/** RFC 6750, section 2.1: in the header, and nowhere else. */
function bearerToken(header: string | undefined): string {
  const value = /^Bearer ([A-Za-z0-9\-._~+/]{1,256}=*)$/i.exec(header ?? '')?.[1];
  if (value) return value;
  throw new M2Error(
    'auth.missing',
    header ? 'The Authorization header is not a bearer token' : 'There is no Authorization header',
  );
}
