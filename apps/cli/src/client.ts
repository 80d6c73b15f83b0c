import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import {
  type AnyRoute,
  auditEvent,
  type BodyInput,
  checkInput,
  fieldsBeside,
  gather,
  hasBody,
  M2Error,
  operation,
  type OutputOfUseCase,
  type PathInput,
  type QueryInput,
  type RouteName,
  routes,
  type Routes,
  type Sent,
} from '@m2/contracts';
import { z } from 'zod';
import { ApiError, CliError, protocolError, refusedWith, UnreachableError } from './errors.js';
import { ServerSentEvents } from './sse.js';

export type Answer<Name extends RouteName> = OutputOfUseCase<Routes[Name]['useCase']>;

export interface Call<Name extends RouteName> {
  params?: PathInput<Routes[Name]>;
  query?: QueryInput<Routes[Name]>;
  body?: BodyInput<Routes[Name]>;
}

/** A call of any route, as it is sent. */
interface AnyCall {
  params?: Record<string, string>;
  query?: Record<string, string | number | boolean | undefined>;
  body?: object;
}

export interface ClientOptions {
  /** Where the gateway is, without `/v1`. */
  url: string;
  token?: string | undefined;
  /** For one try, in milliseconds. */
  deadline?: number;
  /** Tries of a call that may be repeated. */
  attempts?: number;
  /** How long a gateway that was lost is tried for, in milliseconds: by a stream, and by a call that it left without an answer. */
  patience?: number;
  /** Told, in a sentence, when something takes longer than it should: what is waited for. */
  onWait?: (what: string) => void;
  /** Milliseconds without an answer until that is told. */
  notice?: number;
}

/** Tries that may end without any answer: a gateway that hangs is started again meanwhile, or will not answer the next one either. */
const silentTries = 2;

const streamed = { operationShow: operation, eventList: auditEvent } as const;
export type StreamName = keyof typeof streamed;
export type TransferName = 'imageContent' | 'diskContent';

/** Routes that answer in pages, and what one item of them is. */
type Paged = { [Name in RouteName]: Answer<Name> extends { items: unknown[] } ? Name : never }[RouteName];
export type Item<Name extends Paged> = Answer<Name> extends { items: (infer One)[] } ? One : never;

/**
 * The REST API, typed by the routes. What is sent is checked here first, so that a wrong name costs no round trip;
 * what comes back is checked and handed on exactly as it came.
 */
export class M2Client {
  readonly #base: string;
  readonly #options: Required<Omit<ClientOptions, 'url' | 'token'>>;
  readonly #token: string | undefined;

  constructor({
    url,
    token,
    deadline = 30_000,
    attempts = 5,
    patience = 120_000,
    onWait = () => {},
    notice = 3_000,
  }: ClientOptions) {
    this.#base = url.replace(/\/+$/, '');
    this.#token = token;
    this.#options = { deadline, attempts, patience, onWait, notice };
  }

  /**
   * Calls a route. A POST carries an Idempotency-Key, the same in each try: when the answer was lost, the next try gets the
   * answer of the first. Throws ApiError, UnreachableError or CliError.
   */
  async call<Name extends RouteName>(name: Name, call: Call<Name> = {}, signal?: AbortSignal): Promise<Answer<Name>> {
    const route: AnyRoute = routes[name];
    const { url, body } = this.#prepare(route, call as AnyCall);
    // What starts an operation by another method takes a key too.
    const key = route.method === 'POST' || route.useCase.kind === 'operation' ? randomUUID() : undefined;
    // A repeated DELETE that answers 204 would say "not found" of what it deleted itself.
    const repeatable = route.method === 'GET' || route.method === 'PUT' || key !== undefined;
    const init: RequestInit = {
      method: route.method,
      headers: {
        ...this.#headers('application/json'),
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(key && { 'idempotency-key': key }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      // The token goes to the address that was given and nowhere else.
      redirect: 'error',
    };
    const response = await this.#send(url, init, repeatable, signal);
    return (await this.#parse(route.useCase.output, response)) as Answer<Name>;
  }

  /** All pages of a list from its `cursor` on (or `limit` items of it), as one page; `next` is there only when `limit` cut it short. */
  async list<Name extends Paged>(
    name: Name,
    call: Call<Name> = {},
    limit = Number.POSITIVE_INFINITY,
  ): Promise<{ items: Item<Name>[]; next?: string | undefined }> {
    const items: Item<Name>[] = [];
    let cursor = call.query?.['cursor' as keyof typeof call.query] as string | undefined;
    do {
      const query = { ...call.query, cursor, limit: Math.min(500, limit - items.length) };
      const page = (await this.call(name, { ...call, query } as Call<Name>)) as { items: Item<Name>[]; next?: string };
      items.push(...page.items);
      if (page.next === cursor) return { items };
      cursor = page.next;
    } while (cursor !== undefined && items.length < limit);
    return { items, ...(cursor !== undefined && { next: cursor }) };
  }

  /**
   * What a route streams, one value after the other. A lost connection is taken up again where it broke (`Last-Event-ID`); it
   * ends when `signal` says so, and throws when the gateway stays away for longer than `patience` or refuses.
   */
  async *stream<Name extends StreamName>(
    name: Name,
    call: Call<Name> = {},
    signal?: AbortSignal,
  ): AsyncGenerator<z.output<(typeof streamed)[Name]>, void, void> {
    const { url } = this.#prepare(routes[name], call as AnyCall);
    const source = new ServerSentEvents({
      patience: this.#options.patience,
      notice: this.#options.notice,
      onWait: (why) => this.#options.onWait(`${this.#base}: ${why}`),
      connect: (lastEventId, signal) =>
        fetch(url, {
          headers: { ...this.#headers('text/event-stream'), ...(lastEventId && { 'last-event-id': lastEventId }) },
          redirect: 'error',
          signal,
        }),
      refuse: problemOf,
      unreachable: (cause) => new UnreachableError(this.#base, cause),
    });
    for await (const { data } of source.read(signal)) yield check(streamed[name], parseJson(data)) as never;
  }

  /** Opens what a route transfers. It may take as long as it has to. Throws ApiError, UnreachableError. */
  async download<Name extends TransferName>(
    name: Name,
    call: Call<Name>,
    { range, signal }: { range?: string | undefined; signal?: AbortSignal | undefined } = {},
  ): Promise<Response> {
    const { url } = this.#prepare(routes[name], call as AnyCall);
    // As it is: a length, and a place in it, are of the bytes themselves.
    const headers = { ...this.#headers('*/*'), 'accept-encoding': 'identity', ...(range !== undefined && { range }) };
    const response = await fetch(url, { headers, redirect: 'error', signal: signal ?? null }).catch(
      (error: unknown) => {
        signal?.throwIfAborted();
        throw new UnreachableError(this.#base, error);
      },
    );
    if (response.ok) return response;
    throw await problemOf(response);
  }

  /** Where a route is, and what tells it who asks, for a protocol that this client does not speak itself. */
  address<Name extends RouteName>(name: Name, call: Call<Name>): { url: string; headers: Record<string, string> } {
    const { accept, ...headers } = this.#headers('');
    return { url: this.#prepare(routes[name], call as AnyCall).url, headers };
  }

  #headers(accept: string): Record<string, string> {
    return { accept, ...(this.#token && { authorization: `Bearer ${this.#token}` }) };
  }

  #prepare(route: AnyRoute, { params = {}, query = {}, body }: AnyCall): { url: string; body: object | undefined } {
    const given = Object.entries(query).filter(([, value]) => value !== undefined);
    const texts = Object.fromEntries(given.map(([key, value]) => [key, String(value)]));
    const input = ask(route, { params, query: texts, body });
    const path = route.path.replaceAll(/\{(\w+)\}/g, (_, key: string) => encodeURIComponent(params[key] as string));
    const url = new URL(this.#base + path);
    for (const [key, value] of Object.entries(texts)) url.searchParams.set(key, value);
    const isSent = (field: string) => input[field] !== undefined;
    const fields = hasBody(route) ? fieldsBeside(route).filter(isSent) : [];
    const sent = Object.fromEntries(fields.map((field) => [field, input[field]]));
    return { url: url.href, body: hasBody(route) && body !== undefined ? sent : undefined };
  }

  async #send(url: string, init: RequestInit, repeatable: boolean, signal?: AbortSignal): Promise<Response> {
    const { attempts, deadline, notice, onWait, patience } = this.#options;
    const begun = performance.now();
    let silent = 0;
    // It took a call and then hung. Who runs it ends it, and starts it again: that takes longer than a few tries.
    let hung = false;
    const isOver = (attempt: number) =>
      hung ? silent >= silentTries || performance.now() - begun >= patience : attempt >= attempts;
    const say = setTimeout(() => {
      onWait(`${this.#base} has not answered for ${seconds(notice)}; it is waited for, up to ${seconds(deadline)}`);
    }, notice);
    try {
      for (let attempt = 1; ; attempt += 1) {
        const timeout = AbortSignal.timeout(deadline);
        const asked = performance.now();
        try {
          const response = await fetch(url, { ...init, signal: signal ? AbortSignal.any([signal, timeout]) : timeout });
          if (response.ok) return response;
          const again = repeatable && response.status === 503 && !isOver(attempt);
          if (!again) throw await problemOf(response);
          await response.body?.cancel();
        } catch (error) {
          if (error instanceof CliError) throw error;
          signal?.throwIfAborted();
          if (timeout.aborted) silent += 1;
          const wasHanging = timeout.aborted || performance.now() - asked >= notice;
          // A refused connection carried nothing: even a call that must not be repeated was not made yet.
          const isLast = attempts === 1 || silent >= silentTries || (!wasHanging && isOver(attempt));
          if (isLast || !(repeatable || wasRefused(error)))
            throw new UnreachableError(
              this.#base,
              timeout.aborted ? new Error(`no answer within ${seconds(deadline)}`) : error,
            );
          if (timeout.aborted) onWait(`${this.#base} did not answer within ${seconds(deadline)}; it is asked again`);
          else if (wasHanging)
            onWait(`${this.#base} went away without an answer; it is tried again for ${seconds(patience)}`);
          hung ||= wasHanging;
        }
        await pause(Math.min(2000, 100 * 2 ** attempt), undefined, { signal });
      }
    } finally {
      clearTimeout(say);
    }
  }

  async #parse(schema: z.ZodType | null, response: Response): Promise<unknown> {
    if (schema === null) {
      await response.body?.cancel();
      return undefined;
    }
    try {
      return check(schema, parseJson(await response.text()));
    } catch (error) {
      throw error instanceof CliError ? error : new UnreachableError(this.#base, error);
    }
  }
}

const seconds = (milliseconds: number): string => `${milliseconds / 1_000} s`;

/** The input that we send, checked; what is wrong with it is said as the gateway would. */
function ask(route: AnyRoute, sent: Sent): Record<string, unknown> {
  try {
    return checkInput(route.useCase, gather(route, sent));
  } catch (error) {
    throw refusedWith(M2Error.from(error));
  }
}

/** Checks an answer and returns it untouched: `--json` shows what the API said, fields that we do not know included. */
function check(schema: z.ZodType, value: unknown): unknown {
  const result = schema.safeParse(value);
  if (!result.success) throw protocolError(z.prettifyError(result.error), result.error);
  return value;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw protocolError('it is not JSON', error);
  }
}

const problem = z.object({
  code: z.string(),
  title: z.string(),
  detail: z.string(),
  remedy: z.string(),
  about: z.record(z.string(), z.unknown()).optional(),
  traceId: z.string().optional(),
});

const problemOf = async (response: Response): Promise<ApiError> =>
  problemFrom(response.status, response.statusText, await response.text().catch(() => ''));

/** The error that a refusal stands for; one that M2 did not write (a proxy's page) becomes a plain one. */
export function problemFrom(status: number, statusText: string, text: string): ApiError {
  const parsed = problem.safeParse(tryJson(text));
  if (parsed.success) {
    const { about, traceId, ...fields } = parsed.data;
    return new ApiError(status, fields, about, traceId);
  }
  return new ApiError(status, {
    code: `http.${status}`,
    title: 'The answer is not one of M2',
    detail: `HTTP ${status} ${statusText}`.trim(),
    remedy: 'Check that the address is that of an M2 gateway, and what stands between.',
  });
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function wasRefused(error: unknown): boolean {
  const { code, cause, errors } = (error ?? {}) as { code?: unknown; cause?: unknown; errors?: unknown[] };
  if (code === 'ECONNREFUSED') return true;
  // A name with several addresses fails with one error for each.
  if (errors) return errors.length > 0 && errors.every(wasRefused);
  return cause !== undefined && wasRefused(cause);
}
