import type { AnyRoute, Operation } from '@m2/contracts';
import { type CallHandler, type ExecutionContext, Inject, Injectable, type NestInterceptor } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { type Observable, of } from 'rxjs';
import type { M2Request } from '../door/request.js';
import { idempotencyOf, ROUTE } from '../door/serve.js';
import { Runner } from './runner.js';

/**
 * A request that was accepted before under its Idempotency-Key is answered with its operation, before anything is looked up: what it named
 * may be taken by now, by itself. The unique key in the database decides when two come at the same moment.
 */
@Injectable()
export class IdempotencyInterceptor implements NestInterceptor {
  constructor(
    @Inject(Reflector) private readonly reflector: Reflector,
    @Inject(Runner) private readonly runner: Runner,
  ) {}

  async intercept(context: ExecutionContext, next: CallHandler<Operation>): Promise<Observable<Operation>> {
    const route = this.reflector.get<AnyRoute>(ROUTE, context.getHandler());
    const request = context.switchToHttp().getRequest<M2Request>();
    const idempotency = route.status === 202 ? idempotencyOf(request) : undefined;
    const known =
      idempotency && request.caller && (await this.runner.store.byIdempotencyKey(request.caller.token, idempotency));
    return known ? of(known) : next.handle();
  }
}
