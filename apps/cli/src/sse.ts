import { setTimeout as pause } from 'node:timers/promises';
import { CliError, protocolError } from './errors.js';

export interface ServerSentEvent {
  type: string;
  data: string;
  id: string;
}

/** One event may not fill our memory; an operation with all its steps is some kilobytes. */
const maxEventLength = 4 * 1024 * 1024;

/** Splits a stream into events, as the HTML standard says (section 9.2.6, "Interpreting an event stream"). */
export class EventParser {
  #rest = '';
  #type = '';
  #data: string[] = [];
  #length = 0;
  /** What to send as `Last-Event-ID` when the connection is lost. */
  lastEventId = '';

  /** The events that `text` completes. */
  *push(text: string): Generator<ServerSentEvent> {
    this.#rest += text;
    // A lone CR at the end may be the first half of a CRLF: it waits for what comes next.
    const lines = this.#rest.split(/\r\n|\n|\r(?=[^])/);
    this.#rest = lines.pop() as string;
    if (this.#length + this.#rest.length > maxEventLength) throw protocolError('an event of the stream is too long');
    for (const line of lines) {
      const event = this.#line(line);
      if (event) yield event;
    }
  }

  #line(line: string): ServerSentEvent | undefined {
    if (line === '') {
      const event = { type: this.#type || 'message', data: this.#data.join('\n'), id: this.lastEventId };
      const empty = this.#data.length === 0;
      this.#type = '';
      this.#data = [];
      this.#length = 0;
      return empty ? undefined : event;
    }
    const colon = line.indexOf(':');
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '');
    this.#length += line.length;
    if (field === 'data') this.#data.push(value);
    else if (field === 'event') this.#type = value;
    else if (field === 'id' && !value.includes('\0')) this.lastEventId = value;
    return undefined;
  }
}

interface SourceOptions {
  connect: (lastEventId: string, signal: AbortSignal) => Promise<Response>;
  /** The error for an answer that will not become a stream by asking again. */
  refuse: (response: Response) => Promise<Error>;
  unreachable: (cause: unknown) => Error;
  /** Milliseconds without a connection before it gives up. */
  patience: number;
  /** Milliseconds of silence after which a connection counts as dead: a lost gateway does not say goodbye, and a living one says so every 15 s. */
  silence?: number;
  /** Told why nothing comes, when nothing has for `notice` milliseconds, or for longer than a living gateway is quiet. */
  onWait?: (why: string) => void;
  notice?: number;
}

/** A gateway that lives says something at least every 15 s. */
const quietMs = 20_000;

/** Events of one URL, across as many connections as it takes. */
export class ServerSentEvents {
  readonly #options: Required<SourceOptions>;
  #lastEventId = '';

  constructor(options: SourceOptions) {
    this.#options = { silence: 45_000, notice: 3_000, onWait: () => {}, ...options };
  }

  /** Reads until `signal` aborts (which throws its reason) or the reader leaves the loop. */
  async *read(signal?: AbortSignal): AsyncGenerator<ServerSentEvent, void, void> {
    const { notice, onWait, patience, unreachable } = this.#options;
    let lostSince: number | undefined;
    let isTold = false;
    for (let failures = 0; ; failures += 1) {
      try {
        for await (const event of this.#connection(signal)) {
          lostSince = undefined;
          isTold = false;
          failures = 0;
          yield event;
        }
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof CliError) throw error;
        lostSince ??= performance.now();
        if (performance.now() - lostSince >= patience) throw unreachable(error);
        if (!isTold && performance.now() - lostSince >= notice) {
          isTold = true;
          onWait(`the connection is lost; it is tried again for ${patience / 1_000} s`);
        }
      }
      await pause(Math.min(5000, 100 * 2 ** Math.min(failures, 10)), undefined, { signal });
    }
  }

  async *#connection(signal?: AbortSignal): AsyncGenerator<ServerSentEvent> {
    const { connect, refuse, silence, notice, onWait } = this.#options;
    const own = new AbortController();
    const say = setTimeout(() => onWait(`no answer for ${notice / 1_000} s; it is waited for`), notice);
    const quiet = setTimeout(() => onWait(`nothing has come for ${quietMs / 1_000} s; it is waited for`), quietMs);
    const alarm = setTimeout(() => own.abort(new Error('the stream fell silent')), silence);
    try {
      const response = await connect(this.#lastEventId, signal ? AbortSignal.any([signal, own.signal]) : own.signal);
      clearTimeout(say);
      // 429: others of this token's streams may end.
      if ([429, 502, 503, 504].includes(response.status)) {
        throw new Error(`HTTP ${response.status}`, { cause: await refuse(response) });
      }
      if (!response.ok) throw await refuse(response);
      if (!response.headers.get('content-type')?.startsWith('text/event-stream') || !response.body) {
        throw protocolError('it is not a stream of events');
      }
      const parser = new EventParser();
      parser.lastEventId = this.#lastEventId;
      for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
        alarm.refresh();
        quiet.refresh();
        for (const event of parser.push(chunk)) {
          this.#lastEventId = parser.lastEventId;
          yield event;
        }
      }
    } finally {
      for (const timer of [alarm, say, quiet]) clearTimeout(timer);
      // Whoever leaves the loop early leaves no open connection behind.
      own.abort();
    }
  }
}
