import type { Call } from '@m2/contracts';
import type { MsgHdrs } from '@nats-io/transport-node';
import { type CallHandler, createParamDecorator, type ExecutionContext, type NestInterceptor } from '@nestjs/common';
import { BaseRpcContext } from '@nestjs/microservices';
import { from, lastValueFrom, type Observable } from 'rxjs';
import type { Sql } from './database.js';
import type { Effect } from './effects.js';
import type { Subscription } from './inbox.js';

/** Begins an effect, runs `work` in it and answers its result; or answers from the record, without running `work`. */
export type CarryOut = (work: (effect: Effect) => Promise<unknown>) => Promise<unknown>;

/** What guards, interceptors, pipes and filters of a command or a query get from `switchToRpc().getContext<CallContext>()`. */
export class CallContext extends BaseRpcContext<[Call, MsgHdrs | undefined]> {
  /** A command's, once its guards and interceptors let it through: its pipes and its handler see it. */
  effect: Effect | undefined;

  constructor(
    call: Call,
    headers: MsgHdrs | undefined,
    /** For commands only. */
    readonly carryOut?: CarryOut,
  ) {
    super([call, headers]);
  }

  get call(): Call {
    return this.args[0];
  }

  header(name: string): string | undefined {
    return this.args[1]?.get(name) || undefined;
  }
}

/** The same for events. */
export class EventContext extends BaseRpcContext<[Subscription, Sql]> {
  constructor(subscription: Subscription, sql: Sql) {
    super([subscription, sql]);
  }

  get subscription(): Subscription {
    return this.args[0];
  }

  /** The transaction that records the events as received. */
  get sql(): Sql {
    return this.args[1];
  }
}

/**
 * The innermost interceptor of every command. So a guard refuses a message before its fence counts and before it takes a database
 * connection, and what an interceptor makes of the answer is the same for an answer from the record.
 */
export class EffectInterceptor implements NestInterceptor {
  intercept(execution: ExecutionContext, next: CallHandler): Observable<unknown> {
    const context = execution.switchToRpc().getContext<CallContext>();
    if (!context.carryOut) throw new Error(`${context.call.subject} cannot be carried out as an effect`);
    return from(
      context.carryOut((effect) => {
        context.effect = effect;
        return lastValueFrom(next.handle());
      }),
    );
  }
}

/** The parameter that is the `Effect` of a command. */
export const CurrentEffect = createParamDecorator(
  (_: unknown, execution: ExecutionContext) => execution.switchToRpc().getContext<CallContext>().effect,
);

/** The parameter that is the transaction of an event's handler. */
export const CurrentTransaction = createParamDecorator(
  (_: unknown, execution: ExecutionContext) => execution.switchToRpc().getContext<EventContext>().sql,
);
