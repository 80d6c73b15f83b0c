import {
  type Call,
  callsOf,
  headers as names,
  M2Error,
  type ReplyOf,
  type RequestOf,
  type ServiceName,
} from '@m2/contracts';
import type { Msg, Subscription as NatsSubscription } from '@nats-io/transport-node';
import { type Span, SpanKind, SpanStatusCode } from '@opentelemetry/api';
import { z } from 'zod';
import type { Answer, Bus } from './bus.js';
import type { Database } from './database.js';
import { type Effect, type EffectHeaders, runEffect } from './effects.js';
import type { EventHandler, Subscription } from './inbox.js';
import type { Logger } from './log.js';
import { Slots } from './slots.js';
import { contextOf, inSpan, meter } from './telemetry.js';

/** A property descriptor of a method, without the setter that would make it invariant. */
type Method<A extends unknown[], R> = { value?: (...args: A) => Promise<R> };

const handlersOf = new WeakMap<object, { call: Call; method: string }[]>();
const consumersOf = new WeakMap<object, { subscription: Subscription; method: string }[]>();

const remember = <T>(map: WeakMap<object, T[]>, key: object, value: T) =>
  map.set(key, [...(map.get(key) ?? []), value]);

/** Marks the method that answers a query: it gets the request, and changes nothing. */
export const Answers =
  <C extends Call>(call: C) =>
  (target: object, method: string, _: Method<[RequestOf<C>], ReplyOf<C>>): void => {
    remember(handlersOf, target, { call, method });
  };

/** Marks the method that carries out a command: it gets the request and the `Effect` to commit. */
export const Handles =
  <C extends Call>(call: C) =>
  (target: object, method: string, _: Method<[RequestOf<C>, Effect], ReplyOf<C>>): void => {
    remember(handlersOf, target, { call, method });
  };

/** Marks the method that takes in events, once each. */
export const Consumes =
  (subscription: Subscription) =>
  (target: object, method: string, _: { value?: EventHandler }): void => {
    remember(consumersOf, target, { subscription, method });
  };

type Handler = (request: unknown, effect?: Effect) => Promise<unknown>;

const collect = <T extends { method: string }>(map: WeakMap<object, T[]>, instances: object[]) =>
  instances.flatMap((instance) =>
    (map.get(Object.getPrototypeOf(instance) as object) ?? []).map((entry) => ({
      ...entry,
      run: (instance as Record<string, (...args: never[]) => Promise<unknown>>)[entry.method]!.bind(instance),
    })),
  );

export const findConsumers = (instances: object[]) =>
  collect(consumersOf, instances).map(({ subscription, run }) => ({ subscription, handler: run as EventHandler }));

/**
 * Pairs every command and query that a service owns with its handler.
 * Throws when one has none, has two, or when a handler answers what the service does not own: such a service must not start.
 */
export function findHandlers(service: ServiceName, instances: object[]): Map<Call, Handler> {
  const found = collect(handlersOf, instances);
  const owned = callsOf(service);
  const problems = [
    ...owned.flatMap((call) => {
      const count = found.filter((handler) => handler.call === call).length;
      return count === 1 ? [] : [`${call.subject} has ${count === 0 ? 'no handler' : `${count} handlers`}`];
    }),
    ...found
      .filter(({ call }) => !owned.includes(call))
      .map(({ call }) => `${call.subject} is not the ${service} service's`),
  ];
  if (problems.length > 0) throw new Error(`The ${service} service cannot start:\n  ${problems.join('\n  ')}`);
  return new Map(found.map(({ call, run }) => [call, run as Handler]));
}

const connectionsForTheRest = 8;
/** Nobody waits longer. PostgreSQL and timers take no number that is much larger. */
const longestWaitMs = 3_600_000;

/** Listens for the service's commands and queries; replicas share the load through a queue group. */
export class CallServer {
  private subscriptions: NatsSubscription[] = [];
  private readonly inFlight = new Set<Promise<void>>();
  private readonly slots: Slots;
  private readonly seconds = meter().createHistogram('m2_call_seconds', {
    description: 'Time to answer a call',
    unit: 's',
  });

  constructor(
    private readonly service: ServiceName,
    private readonly bus: Bus,
    private readonly database: Database,
    private readonly log: Logger,
    private readonly onEvents: () => void,
    poolSize: number,
  ) {
    // Each command keeps a connection for as long as it works; some must be left for everything else.
    this.slots = new Slots(Math.max(1, poolSize - connectionsForTheRest));
  }

  start(handlers: Map<Call, Handler>): void {
    this.subscriptions = [...handlers].map(([call, handler]) =>
      this.bus.connection.subscribe(call.subject, {
        queue: `m2-${this.service}`,
        callback: (error, message) => {
          if (error) return this.log.error({ err: error, subject: call.subject }, 'the subscription failed');
          const work: Promise<void> = this.answer(call, handler, message).finally(() => this.inFlight.delete(work));
          this.inFlight.add(work);
        },
      }),
    );
  }

  /** Takes no new call, and ends those under way. */
  async stop(): Promise<void> {
    await Promise.all(this.subscriptions.map((subscription) => subscription.drain().catch(() => {})));
    await Promise.allSettled(this.inFlight);
  }

  private async answer(call: Call, handler: Handler, message: Msg): Promise<void> {
    const started = performance.now();
    const parent = contextOf(message.headers?.get(names.traceparent) || undefined);
    const answer = await inSpan(
      call.subject,
      SpanKind.SERVER,
      (span) =>
        this.run(call, handler, message).then(
          (value): Answer => ({ ok: true, value }),
          (error: unknown) => this.refuse(call, message, error, span),
        ),
      parent,
    );
    message.respond(JSON.stringify(answer));
    this.seconds.record((performance.now() - started) / 1000, {
      subject: call.subject,
      outcome: answer.ok ? 'ok' : answer.error.code,
    });
  }

  /** Inside the span, so that the line in the log carries the trace id that a person is told to look for. */
  private refuse(call: Call, message: Msg, error: unknown, span: Span): Answer {
    const failure = M2Error.from(error);
    span.setStatus({ code: SpanStatusCode.ERROR, message: failure.code });
    const line = { subject: call.subject, effect: message.headers?.get(names.effect), code: failure.code };
    if (failure.code === 'internal') this.log.error({ ...line, err: error }, 'a call failed');
    else this.log.info({ ...line, detail: failure.detail }, 'a call was refused');
    return { ok: false, error: failure.toValue() };
  }

  private async run(call: Call, handler: Handler, message: Msg): Promise<unknown> {
    const header = (name: string) => message.headers?.get(name) || undefined;
    const parsed = call.request.safeParse(safeJson(message));
    if (!parsed.success) throw new M2Error('request.invalid', `${call.subject}: ${z.prettifyError(parsed.error)}`);
    if (call.kind === 'query') return handler(parsed.data);

    const key = header(names.effect);
    const remainingMs = Number(header(names.deadline) ?? NaN);
    if (!key || !Number.isFinite(remainingMs))
      throw new M2Error('request.invalid', `${call.subject} came without an effect key or a deadline`);
    // On this process's own clock, which nobody sets.
    const deadline = performance.now() + Math.min(remainingMs, longestWaitMs);
    await this.slots.take();
    try {
      return await this.runCommand(call, handler, parsed.data, {
        key,
        deadline,
        fence: Number(header(names.fence) ?? 0),
      });
    } finally {
      this.slots.give();
    }
  }

  private async runCommand(call: Call, handler: Handler, request: unknown, headers: EffectHeaders): Promise<unknown> {
    if (headers.deadline <= performance.now())
      throw new M2Error('request.deadline', `${call.subject} was reached after its deadline`);
    return runEffect(this.database, call, headers, this.onEvents, (effect) => handler(request, effect));
  }
}

function safeJson(message: Msg): unknown {
  try {
    return message.json();
  } catch {
    return undefined;
  }
}
