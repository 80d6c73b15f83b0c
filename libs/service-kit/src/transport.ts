import { type Call, callsOf, headers as names, M2Error, type ServiceName } from '@m2/contracts';
import type { Msg, NatsConnection, Subscription as NatsSubscription } from '@nats-io/transport-node';
import { type CustomTransportStrategy, type MessageHandler, Server } from '@nestjs/microservices';
import { type Span, SpanKind, SpanStatusCode } from '@opentelemetry/api';
import { isObservable, lastValueFrom } from 'rxjs';
import pLimit, { type LimitFunction } from 'p-limit';
import { z } from 'zod';
import { fit, isInbox } from './answers.js';
import type { Answer, Bus } from './bus.js';
import type { Database, Sql } from './database.js';
import type { Effects } from './effects.js';
import type { StreamLimits } from './event-stream.js';
import type { CallExtras, EventExtras } from './handlers.js';
import { EventConsumer } from './inbox.js';
import type { Logger } from './log.js';
import { CallContext, type CarryOut, EventContext } from './message-context.js';
import type { ReceivedEvent } from './received-event.js';
import { Standstill } from './standstill.js';
import { contextOf, inSpan, meter } from './telemetry.js';

export interface TransportOptions {
  service: ServiceName;
  bus: Bus;
  database: Database;
  log: Logger;
  effects: Effects;
  /** Commands that are carried out at the same time; more wait. */
  concurrency: number;
  /** The limits of the event stream, for the one service that makes it. */
  makesStream?: StreamLimits | undefined;
}

/** Nobody waits longer. PostgreSQL and timers take no number that is much larger. */
const longestWaitMs = 3_600_000;

/**
 * Carries commands, queries and events from NATS to the handlers that Nest found in the controllers, and the answers back. What Nest
 * gives it to call is the handler with its guards, interceptors, pipes and exception filters.
 */
export class NatsTransport extends Server implements CustomTransportStrategy {
  override readonly transportId = Symbol('m2');
  /** An event whose handler failed comes again. */
  override readonly propagatesEventHandlerErrors = true;

  private readonly calls: { call: Call; handler: MessageHandler }[] = [];
  private readonly consumers: EventConsumer[] = [];
  private subscriptions: NatsSubscription[] = [];
  private readonly inFlight = new Set<Promise<void>>();
  private closing: Promise<void> | undefined;
  private readonly limit: LimitFunction;
  private readonly standstill = new Standstill();
  private readonly seconds = meter().createHistogram('m2_call_seconds', {
    description: 'Time to answer a call',
    unit: 's',
  });

  constructor(private readonly options: TransportOptions) {
    super();
    this.limit = pLimit(options.concurrency);
  }

  /** Nest calls it for each handler of the controllers. Throws when one was not bound by our decorators: it would have no contract. */
  override addHandler(
    pattern: string,
    handler: MessageHandler,
    _isEventHandler = false,
    extras: Partial<CallExtras & EventExtras> = {},
  ): void {
    if (extras.call) this.calls.push({ call: extras.call, handler });
    else if (extras.subscription) this.consumers.push(this.consumer(extras.subscription, handler));
    else throw new Error(`${pattern} is not bound by @Handles, @Answers or @Consumes`);
  }

  /** Listens for the calls, as one of the service's queue group, and consumes events. */
  override async listen(callback: (error?: unknown) => void): Promise<void> {
    try {
      await this.start();
    } catch (error) {
      callback(error);
      return;
    }
    callback();
  }

  /** Takes no new message, and ends those under way. */
  override close(): Promise<void> {
    return (this.closing ??= this.end());
  }

  override on(): never {
    throw new Error('The transport has no events: see the status of the connection that unwrap() returns');
  }

  override unwrap<T = NatsConnection>(): T {
    return this.options.bus.connection as T;
  }

  private async start(): Promise<void> {
    this.check();
    const { service, bus, log } = this.options;
    this.subscriptions = this.calls.map(({ call, handler }) =>
      bus.connection.subscribe(call.subject, {
        queue: `m2-${service}`,
        callback: (error, message) => {
          if (error) return log.error({ err: error, subject: call.subject }, 'the subscription failed');
          if (!isInbox(message.reply))
            return log.warn(
              { subject: call.subject, reply: message.reply },
              'an answer was asked for at a strange place',
            );
          const work: Promise<void> = this.answer(call, handler, message)
            // Nobody waits for this promise: what it threw would end the process.
            .catch((err: unknown) => log.error({ subject: call.subject, err }, 'a call could not be answered'))
            .finally(() => this.inFlight.delete(work));
          this.inFlight.add(work);
        },
      }),
    );
    // The server has the subscriptions before anybody is told that the service is there.
    await bus.connection.flush();
    for (const consumer of this.consumers) consumer.start();
  }

  private async end(): Promise<void> {
    this.standstill.stop();
    await Promise.all(this.subscriptions.map((subscription) => subscription.drain().catch(() => {})));
    await Promise.allSettled(this.inFlight);
    await Promise.all(this.consumers.map((consumer) => consumer.stop()));
  }

  /**
   * Throws when a call that the service owns has no handler, or two, or when a handler answers what the service does not own: such a
   * service must not start.
   */
  private check(): void {
    const { service } = this.options;
    const owned = callsOf(service);
    const problems = [
      ...owned.flatMap((call) => {
        const count = this.calls.filter((one) => one.call === call).length;
        return count === 1 ? [] : [`${call.subject} has ${count === 0 ? 'no handler' : `${count} handlers`}`];
      }),
      ...this.calls
        .filter(({ call }) => !owned.includes(call))
        .map(({ call }) => `${call.subject} is not the ${service} service's`),
    ];
    if (problems.length === 0) return;
    const where = 'handlers are methods of the controllers of its modules';
    throw new Error(`The ${service} service cannot start (${where}):\n  ${problems.join('\n  ')}`);
  }

  private consumer(subscription: EventExtras['subscription'], handler: MessageHandler): EventConsumer {
    const { bus, database, log, makesStream } = this.options;
    const receive = async (events: ReceivedEvent[], sql: Sql) => {
      await resultOf(handler(events, new EventContext(subscription, sql)));
    };
    return new EventConsumer(bus, database, log, subscription, receive, makesStream);
  }

  private async answer(call: Call, handler: MessageHandler, message: Msg): Promise<void> {
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
    const sent = this.respond(call, message, answer);
    this.seconds.record((performance.now() - started) / 1000, {
      subject: call.subject,
      outcome: sent.ok ? 'ok' : sent.error.code,
    });
  }

  /** Returns what was answered: an error where the answer itself cannot be sent. */
  private respond(call: Call, message: Msg, answer: Answer): Answer {
    const { bus, log } = this.options;
    const sendable = fit(call, answer, bus.maxPayload);
    if (sendable.problem) log.error({ subject: call.subject, err: sendable.problem }, 'an answer could not be sent');
    message.respond(sendable.payload);
    return sendable.answer;
  }

  /** Inside the span, so that the line in the log carries the trace id that a person is told to look for. */
  private refuse(call: Call, message: Msg, error: unknown, span: Span): Answer {
    const failure = M2Error.from(error);
    span.setStatus({ code: SpanStatusCode.ERROR, message: failure.code });
    const line = { subject: call.subject, effect: message.headers?.get(names.effect), code: failure.code };
    if (failure.code === 'internal') this.options.log.error({ ...line, err: error }, 'a call failed');
    else this.options.log.info({ ...line, detail: failure.detail }, 'a call was refused');
    return { ok: false, error: failure.toValue(), ...(failure.refused && { refused: true }) };
  }

  /** The contract comes before Nest: guards and interceptors see a request that is valid. */
  private async run(call: Call, handler: MessageHandler, message: Msg): Promise<unknown> {
    const parsed = call.request.safeParse(safeJson(message));
    if (!parsed.success) throw new M2Error('request.invalid', `${call.subject}: ${z.prettifyError(parsed.error)}`);
    const carryOut = call.kind === 'command' ? this.effectOf(call, message) : undefined;
    return resultOf(handler(parsed.data, new CallContext(call, message.headers, carryOut)));
  }

  /** Throws M2Error `request.invalid` for a command without the headers that an effect needs. */
  private effectOf(call: Call, message: Msg): CarryOut {
    const header = (name: string) => message.headers?.get(name) || undefined;
    const key = header(names.effect);
    // oxlint-disable-next-line no-restricted-properties -- a sender of the version before says the moment alone, by the wall clock
    const remainingMs = Number(header(names.remaining) ?? Number(header(names.deadline) ?? NaN) - Date.now());
    if (!key || !Number.isFinite(remainingMs))
      throw new M2Error('request.invalid', `${call.subject} came without an effect key or a deadline`);
    // On this process's own clock, which nobody sets.
    const deadline = performance.now() + Math.min(remainingMs, longestWaitMs) - this.standstill.waitedMs;
    return (work) =>
      this.limit(async () => {
        if (deadline <= performance.now())
          throw new M2Error('request.deadline', `${call.subject} was reached after its deadline`);
        const fence = Number(header(names.fence) ?? 0);
        return this.options.effects.run({ call, key, deadline, fence }, work);
      });
  }
}

/** Where a handler has interceptors, or has failed, Nest answers with an Observable. */
async function resultOf(answer: Promise<unknown>): Promise<unknown> {
  const result = await answer;
  return isObservable(result) ? lastValueFrom(result, { defaultValue: undefined }) : result;
}

function safeJson(message: Msg): unknown {
  try {
    return message.json();
  } catch {
    return undefined;
  }
}
