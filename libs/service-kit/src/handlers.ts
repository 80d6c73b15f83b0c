import type { Call, ReplyOf, RequestOf } from '@m2/contracts';
import { applyDecorators, UseInterceptors } from '@nestjs/common';
import { EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { PARAM_ARGS_METADATA } from '@nestjs/microservices/constants.js';
import type { Effect } from './effects.js';
import { type EventHandler, subjectOf, type Subscription } from './inbox.js';
import { CurrentEffect, CurrentTransaction, EffectInterceptor } from './message-context.js';

/** A property descriptor of a method, without the setter that would make it invariant. */
type Method<A extends unknown[], R> = { value?: (...args: A) => Promise<R> };

/** What our decorators tell the transport, beside Nest's pattern. */
export interface CallExtras {
  call: Call;
}
export interface EventExtras {
  subscription: Subscription;
}

const effects = new EffectInterceptor();

/** Marks the method of a controller that answers a query: it gets the request, and changes nothing. */
export const Answers = <C extends Call>(call: C) => {
  if (call.kind !== 'query') throw new Error(`${call.subject} is a command: use @Handles`);
  const extras: CallExtras = { call };
  return (target: object, method: string, descriptor: Method<[RequestOf<C>], ReplyOf<C>>): void => {
    compose(target, method, descriptor, [MessagePattern(call.subject, extras)], [Payload()]);
  };
};

/**
 * Marks the method of a controller that carries out a command: it gets the request and the `Effect` to commit. An interceptor of the
 * method stands below it: above, it would run inside the effect, and not for an answer from the record.
 */
export const Handles = <C extends Call>(call: C) => {
  if (call.kind !== 'command') throw new Error(`${call.subject} is a query: use @Answers`);
  const extras: CallExtras = { call };
  return (target: object, method: string, descriptor: Method<[RequestOf<C>, Effect], ReplyOf<C>>): void => {
    const decorators = [MessagePattern(call.subject, extras), UseInterceptors(effects)];
    compose(target, method, descriptor, decorators, [Payload(), CurrentEffect()]);
  };
};

/** Marks the method of a controller that takes in events, once each: it gets the events and the transaction. */
export const Consumes = (subscription: Subscription) => {
  const extras: EventExtras = { subscription };
  return (target: object, method: string, descriptor: { value?: EventHandler }): void => {
    // Nest types it for a handler of one event without a transaction.
    const pattern = EventPattern(subjectOf(subscription), extras) as MethodDecorator;
    compose(target, method, descriptor, [pattern], [Payload(), CurrentTransaction()]);
  };
};

function compose(
  target: object,
  method: string,
  descriptor: object,
  decorators: MethodDecorator[],
  parameters: ParameterDecorator[],
): void {
  applyDecorators(...decorators)(target, method, descriptor as TypedPropertyDescriptor<unknown>);
  const metadata = Reflect.getMetadata(PARAM_ARGS_METADATA, target.constructor, method) as object | undefined;
  const decorated = new Set(Object.values(metadata ?? {}).map(({ index }: { index: number }) => index));
  // A parameter that the handler itself has decorated, as with `@Payload(pipe)`, stays as it is.
  for (const [index, decorate] of parameters.entries()) if (!decorated.has(index)) decorate(target, method, index);
}
