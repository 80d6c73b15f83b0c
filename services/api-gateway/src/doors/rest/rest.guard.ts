import { type AnyRoute, M2Error } from '@m2/contracts';
import { type CanActivate, type ExecutionContext, Inject, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { Access } from '../../access/access.js';
import type { AdmittedRequest } from './request.js';

/** Where a handler's route is kept. */
export const ROUTE = Symbol('m2 route');

/**
 * Asks for access to the use case of the route. What has no route of the catalogue is refused, so a controller that forgets about access
 * serves nobody. A guard and not a middleware: it runs for the handler that will run, whatever form the path came in.
 */
@Injectable()
export class RestGuard implements CanActivate {
  constructor(
    @Inject(Reflector) private readonly reflector: Reflector,
    @Inject(Access) private readonly access: Access,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const route = this.reflector.get<AnyRoute | undefined>(ROUTE, context.getHandler());
    if (!route) throw new M2Error('request.not_found', 'This path is not served');
    const request = context.switchToHttp().getRequest<AdmittedRequest>();
    const { authorization } = request.headers;
    const { project } = request.params as { project?: string };
    request.admission = await this.access.admit(route.useCase, 'rest', { authorization }, project);
    return true;
  }
}
