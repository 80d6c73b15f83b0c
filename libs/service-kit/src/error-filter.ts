import { M2Error } from '@m2/contracts';
import { Catch, HttpException, type RpcExceptionFilter } from '@nestjs/common';
import { FORBIDDEN_MESSAGE } from '@nestjs/core/internal';
import { RpcException } from '@nestjs/microservices';
import { type Observable, throwError } from 'rxjs';
import { translated } from './database.js';

/**
 * The last filter of every message. Nest would replace an error that no filter knows; the transport is to see it as it was thrown,
 * for the log and for the answer. What Nest's own guards and pipes throw is put into words of the catalogue.
 */
@Catch()
export class ErrorFilter implements RpcExceptionFilter {
  catch(error: unknown): Observable<never> {
    return throwError(() => translate(error));
  }
}

function translate(error: unknown): unknown {
  if (error instanceof RpcException && error.message === FORBIDDEN_MESSAGE)
    return new M2Error('auth.forbidden', 'A guard refused the message', undefined, { cause: error });
  // Nest's pipes do not know that they are not behind HTTP.
  if (error instanceof HttpException && error.getStatus() === 400)
    return new M2Error('request.invalid', error.message, undefined, { cause: error });
  // A repository's errors have not come by our own session.
  return translated(error);
}
