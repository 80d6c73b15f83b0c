import { type Call, type InputOf, M2Error, type RequestOf } from '@m2/contracts';
import type { Bus } from '../bus.js';

type Reply<C extends Call> = C extends Call<never, infer Res> ? Res['_zod']['input'] : unknown;

/**
 * Stands in for a service, for one of its calls. `reply` makes each answer; when it throws, the answer is that error.
 * Returns the list of the requests so far, which grows.
 */
export function answer<C extends Call>(
  bus: Bus,
  call: C,
  reply: (request: RequestOf<C>, effect: string | undefined) => Reply<C> | Promise<Reply<C>>,
): { requests: RequestOf<C>[]; stop(): void } {
  const requests: RequestOf<C>[] = [];
  const subscription = bus.connection.subscribe(call.subject, {
    callback: (_error, message) => {
      const request = call.request.parse(message.json<InputOf<C>>()) as RequestOf<C>;
      requests.push(request);
      const respond = (value: unknown) => message.respond(JSON.stringify(value));
      Promise.resolve()
        .then(() => reply(request, message.headers?.get('m2-effect') || undefined))
        .then(
          (value) => respond({ ok: true, value }),
          (error: unknown) => respond({ ok: false, error: M2Error.from(error).toValue() }),
        );
    },
  });
  return { requests, stop: () => subscription.unsubscribe() };
}
