import type { AnyRoute, Operation } from '@m2/contracts';
import { type CallHandler, type ExecutionContext, Inject, Injectable, type NestInterceptor } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { catchError, type Observable, of } from 'rxjs';
import type { M2Request } from '../door/request.js';
import { idempotencyOf, ROUTE } from '../door/serve.js';
import { Runner } from '@m2/saga';

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
    const { actor } = request;
    if (!idempotency || !actor) return next.handle();
    const find = () => this.runner.store.byIdempotencyKey(actor.token, idempotency);
    const known = await find();
    if (known) return of(known);
    // Its twin may have been accepted since, and have taken the name that this one was refused for.
    return next.handle().pipe(
      catchError(async (refusal: unknown) => {
        const twin = await find();
        if (twin) return twin;
        throw refusal;
      }),
    );
  }
}
