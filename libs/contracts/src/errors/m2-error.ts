import * as fields from '../fields.js';
import { type ErrorCode, errorCatalogue, isErrorCode } from './catalogue.js';
import type { ErrorKind, RetryClass } from './kind.js';

/** What crosses the wire between services, and what an operation remembers of a failure. */
export interface ErrorValue {
  code: ErrorCode;
  detail: string;
  /** What the error is about, for example `{ disk: 'web-1' }`; never a secret. */
  about?: Record<string, unknown>;
}

/** An error that has a place in the catalogue. `detail` is for people: a sentence about this very case. */
export class M2Error extends Error {
  override readonly name = 'M2Error';
  /**
   * Whether the handler of a command refused it before it recorded or did anything. The transport finds that out; another run of the same
   * command may have done something all the same.
   */
  refused = false;

  constructor(
    readonly code: ErrorCode,
    readonly detail: string,
    readonly about?: Record<string, unknown>,
    options?: ErrorOptions,
  ) {
    super(`${code}: ${detail}`, options);
  }

  get status(): number {
    return errorCatalogue[this.code].status;
  }

  get retry(): RetryClass {
    return errorCatalogue[this.code].retry;
  }

  /** Whether the same call may succeed later without anybody's help. */
  get retryable(): boolean {
    return this.retry !== 'final';
  }

  get untouched(): boolean {
    return (errorCatalogue[this.code] as ErrorKind).untouched ?? false;
  }

  /** No longer than every message has room for. */
  toValue(): ErrorValue {
    // What a device said may hold anything; PostgreSQL keeps anything but NUL and half a character.
    const detail = this.detail.replaceAll('\0', '\ufffd').slice(0, 2_000).toWellFormed();
    const isTold = this.about && fields.about.safeParse(this.about).success;
    return { code: this.code, detail, ...(isTold && { about: this.about }) };
  }

  static fromValue(value: ErrorValue, refused = false): M2Error {
    const error = new M2Error(isErrorCode(value.code) ? value.code : 'internal', value.detail, value.about);
    error.refused = refused;
    return error;
  }

  /** Drivers throw errors with a `code` of the catalogue and know nothing of this class; all else is `internal`. */
  static from(error: unknown): M2Error {
    if (error instanceof M2Error) return error;
    const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
    const detail = typeof message === 'string' ? message : String(error);
    return new M2Error(isErrorCode(code) ? code : 'internal', detail, undefined, { cause: error });
  }
}

/** What everybody may read of an error: what broke inside names files and addresses, and is for the log. */
export const shown = <E extends { code: string; detail: string }>(error: E): E =>
  error.code === 'internal' ? { ...error, detail: errorCatalogue.internal.title } : error;

/** RFC 9457 problem details. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: ErrorCode;
  remedy: string;
  traceId?: string;
  about?: Record<string, unknown>;
}

export function toProblem(error: M2Error, traceId?: string): Problem {
  const { status, title, remedy } = errorCatalogue[error.code];
  return {
    type: `urn:m2:error:${error.code}`,
    title,
    status,
    // What broke inside is for the log; a stranger gets the trace id to ask with.
    detail: error.code === 'internal' ? title : error.detail,
    code: error.code,
    remedy,
    ...(traceId && { traceId }),
    ...(error.about && { about: error.about }),
  };
}
