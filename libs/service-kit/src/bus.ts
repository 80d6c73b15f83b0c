import {
  arrivalOf,
  type Call,
  headers as names,
  type InputOf,
  M2Error,
  natsInbox,
  natsPermissions,
  type ReplyOf,
  type ServiceName,
  serviceNames,
} from '@m2/contracts';
import { jetstream, type JetStreamClient } from '@nats-io/jetstream';
import {
  connect,
  headers,
  type NatsConnection,
  type NodeConnectionOptions,
  type MsgHdrs,
  NoRespondersError,
  RequestError,
  TimeoutError,
} from '@nats-io/transport-node';
import { SpanKind } from '@opentelemetry/api';
import { setTimeout as pause } from 'node:timers/promises';
import { z } from 'zod';
import { currentTraceparent, inSpan } from './telemetry.js';

const answer = z.union([
  z.object({ ok: z.literal(true), value: z.unknown() }),
  z.object({
    ok: z.literal(false),
    error: z.custom<Parameters<typeof M2Error.fromValue>[0]>(),
    refused: z.boolean().optional(),
  }),
]);
export type Answer = z.infer<typeof answer>;

export interface RequestOptions {
  /** Milliseconds until nobody waits for the answer any more. */
  deadlineMs: number;
  /** For commands: see `headers` in the contracts. */
  effect?: string;
  fence?: number;
  /** Called each time that the request is sent again: the service that owes the answer has restarted, and may have acted. */
  onAgain?: () => void;
}

/** The server counts them with the payload. */
const roomForHeaders = 4_096;

const reconnectMs = 250;
const toldEveryMs = 10_000;

/** The service that owes an answer was restarted, or one of its processes fell silent. */
class AskAgain extends Error {}

/** The services that `asker` asks something. */
const askedBy = (asker: ServiceName) =>
  serviceNames.filter((service) => natsPermissions(asker).subscribe.includes(arrivalOf(service)));

/** Where to connect to, and how. */
export const serversOf = (url: string, ca?: string): Pick<NodeConnectionOptions, 'servers' | 'tls'> => ({
  servers: url.split(','),
  ...((ca || url.includes('tls://')) && { tls: ca ? { ca } : {} }),
});

/** The connection to NATS of one service, with the service's own user and inbox. */
export class Bus {
  readonly js: JetStreamClient;

  private away = false;
  private announced = false;
  /** For each request under way: the function that ends its wait, and the service that owes the answer. */
  private readonly underWay = new Map<(reason: Error) => void, ServiceName>();

  private constructor(
    readonly connection: NatsConnection,
    private readonly service: ServiceName,
  ) {
    this.js = jetstream(connection);
    void this.watch();
    for (const asked of askedBy(service)) this.hearArrivals(asked);
  }

  /** The largest message that the server takes, in bytes. */
  get maxPayload(): number {
    return this.connection.info?.max_payload ?? 1024 * 1024;
  }

  /** Whether the server is away. A message that is sent now would wait in the client until the server is back. */
  get isAway(): boolean {
    return this.away;
  }

  /** When the connection is lost, answers that were to come over it may be lost too: all waits end. */
  private async watch(): Promise<void> {
    for await (const { type } of this.connection.status()) {
      if (type === 'reconnect') {
        this.away = false;
        // What was asked meanwhile may not have come here, although the server had not missed us yet.
        if (this.announced) this.announce();
      }
      if (type !== 'disconnect') continue;
      this.away = true;
      for (const fail of this.underWay.keys()) fail(new Error('the connection to NATS was lost'));
    }
  }

  /**
   * Announces that this service takes calls: when it has started, when it was cut off, and when another process of it has fallen silent. Requests to
   * a process that died, or stands still, will not be answered.
   */
  announce(): void {
    this.announced = true;
    this.tell({ subject: arrivalOf(this.service) }, {});
  }

  /**
   * A service that died, or stands still, owes answers that do not come. Requests that wait for one are sent again when a replica of that service
   * says that it is there. Another replica may still work on the first message: then the second one waits for the same answer.
   */
  private hearArrivals(asked: ServiceName): void {
    this.connection.subscribe(arrivalOf(asked), {
      callback: () => {
        for (const [again, service] of this.underWay) if (service === asked) again(new AskAgain());
      },
    });
  }

  /** Connects. Waits for a server that is not up yet, or does not take us yet, and reconnects for ever. */
  static async open(options: {
    service: ServiceName;
    /** Servers of one cluster, separated by commas. With `tls://`, or with `ca`, no server is talked to without TLS. */
    url: string;
    password?: string | undefined;
    /** Certificates, in PEM, of who vouches for the servers; by default those that the system trusts. */
    ca?: string | undefined;
    /** Told why it waits: at once, and then every ten seconds. */
    onWait?: (reason: unknown) => void;
  }): Promise<Bus> {
    const settings: NodeConnectionOptions = {
      ...serversOf(options.url, options.ca),
      name: `m2-${options.service}`,
      ...(options.password && { user: `m2-${options.service}`, pass: options.password }),
      // The server lets a service subscribe to its own inbox only, so nobody reads another's answers.
      inboxPrefix: natsInbox(options.service),
      // A trace of where each request began costs more than the request; the error says which call it was.
      noAsyncTraces: true,
      maxReconnectAttempts: -1,
      reconnectTimeWait: reconnectMs,
      // A server that hangs, or a cable that was pulled, is noticed within half a minute.
      pingInterval: 10_000,
      ignoreAuthErrorAbort: true,
    };
    for (let toldAt = -Infinity; ; await pause(reconnectMs)) {
      try {
        return new Bus(await connect(settings), options.service);
      } catch (error) {
        // Whatever it is, a person may be about to mend it: a server that is being configured does not know the users yet, say.
        if (performance.now() - toldAt < toldEveryMs) continue;
        toldAt = performance.now();
        options.onWait?.(error);
      }
    }
  }

  /**
   * Asks a service and waits for the answer.
   * Throws M2Error: the service's own, or `service.unavailable` (nobody listens), `request.deadline`, `request.too_large`.
   */
  request<C extends Call>(call: C, input: InputOf<C>, options: RequestOptions): Promise<ReplyOf<C>> {
    return inSpan(call.subject, SpanKind.CLIENT, async () => {
      const meta = headers();
      const traceparent = currentTraceparent();
      if (traceparent) meta.set(names.traceparent, traceparent);
      if (options.effect) meta.set(names.effect, options.effect);
      if (options.fence !== undefined) meta.set(names.fence, String(options.fence));
      const payload = JSON.stringify(input);
      if (Buffer.byteLength(payload) > this.maxPayload - roomForHeaders)
        throw new M2Error('request.too_large', `${call.subject} is asked with more than ${this.maxPayload} bytes`);
      const until = performance.now() + options.deadlineMs;
      const reply = await this.send(call, payload, until, meta, options.onAgain);
      if (!reply.ok) throw M2Error.fromValue(reply.error, reply.refused);
      return call.reply.parse(reply.value) as ReplyOf<C>;
    });
  }

  private async send(
    call: Call,
    payload: string,
    until: number,
    headers: MsgHdrs,
    onAgain?: () => void,
  ): Promise<Answer> {
    const lost = Promise.withResolvers<never>();
    this.underWay.set(lost.reject, call.service);
    const timeout = Math.max(1, Math.round(until - performance.now()));
    headers.set(names.remaining, String(timeout));
    // oxlint-disable-next-line no-restricted-properties -- a receiver of the version before reads the moment alone, by the wall clock
    headers.set(names.deadline, String(Date.now() + timeout));
    try {
      if (this.away) throw new Error('NATS is away');
      const asked = this.connection.request(call.subject, payload, { timeout, headers });
      return answer.parse((await Promise.race([asked, lost.promise])).json());
    } catch (error) {
      if (error instanceof AskAgain && performance.now() < until) {
        onAgain?.();
        return await this.send(call, payload, until, headers, onAgain);
      }
      const cause = error instanceof RequestError ? (error.cause ?? error) : error;
      if (cause instanceof NoRespondersError || (error instanceof RequestError && error.isNoResponders()))
        throw new M2Error('service.unavailable', `The ${call.service} service is not there`, undefined, { cause });
      if (cause instanceof TimeoutError)
        throw new M2Error(
          'request.deadline',
          `The ${call.service} service did not answer in ${timeout} ms`,
          undefined,
          {
            cause,
          },
        );
      if (error instanceof z.ZodError) throw error;
      throw new M2Error(
        'service.unavailable',
        `The ${call.service} service could not be asked: ${(error as Error).message}`,
        undefined,
        {
          cause,
        },
      );
    } finally {
      this.underWay.delete(lost.reject);
    }
  }

  /** Publishes to whoever listens right now. Nothing is kept: for live progress, where a missed message does no harm. */
  tell(event: { subject: string }, data: unknown): void {
    if (!this.connection.isClosed()) this.connection.publish(event.subject, JSON.stringify(data));
  }

  /** One round trip to the server; throws when it is away. */
  async ping(): Promise<void> {
    await this.connection.rtt();
  }

  async close(): Promise<void> {
    if (!this.connection.isClosed()) await this.connection.close();
  }
}
