import { allRoutes, M2Error, toProblem } from '@m2/contracts';
import { currentTraceId, type Kit, KIT } from '@m2/service-kit';
import { type ArgumentsHost, Catch, type ExceptionFilter, HttpException, Inject } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Access } from '../../access/access.js';
import { linger } from './linger.js';

const patterns = allRoutes.map((route) => ({
  method: route.method,
  path: new RegExp(`^${route.path.replaceAll('.', '\\.').replaceAll(/\{\w+\}/g, '[^/]+')}/?$`),
}));

const methodsOf = (url: string) => {
  const [path = ''] = url.split('?');
  return patterns.filter((pattern) => pattern.path.test(path)).map((pattern) => pattern.method);
};

/** Every failure leaves as problem details (RFC 9457) with a code of the catalogue. */
@Catch()
export class ProblemFilter implements ExceptionFilter {
  constructor(
    @Inject(KIT) private readonly kit: Pick<Kit, 'log'>,
    @Inject(Access) private readonly access: Pick<Access, 'challenges'>,
  ) {}

  catch(error: unknown, host: ArgumentsHost): void {
    const request = host.switchToHttp().getRequest<FastifyRequest>();
    const reply = host.switchToHttp().getResponse<FastifyReply>();
    const failure = translate(error, request);
    if (failure.status >= 500) this.kit.log.error({ err: error, url: request.url.split('?')[0] }, 'a request failed');
    if (failure.status === 405) reply.header('allow', methodsOf(request.url).join(', '));
    if (failure.status === 401) reply.header('www-authenticate', this.access.challenges.join(', '));
    answer(reply, failure);
  }
}

/** For what Fastify refuses by itself, before there is a route. */
export const refuse = (reply: FastifyReply, error: Error): void =>
  answer(reply, new M2Error('request.invalid', error.message));

/** Answers with the failure as problem details. */
export function answer(reply: FastifyReply, failure: M2Error): void {
  linger(reply);
  void reply
    .status(failure.status)
    .type('application/problem+json')
    .send(JSON.stringify(toProblem(failure, currentTraceId())));
}

/** Nest turns Fastify's refusals into its own exceptions, of which only the status is left. */
function translate(error: unknown, request: FastifyRequest): M2Error {
  if (!(error instanceof HttpException)) return M2Error.from(error);
  const status = error.getStatus();
  if (status === 404)
    return methodsOf(request.url).length > 0
      ? new M2Error('request.method_not_allowed', `${request.method} is not for this path`)
      : new M2Error('request.not_found', 'There is nothing at this path');
  if (status === 413) return new M2Error('request.too_large', 'The body is over one mebibyte');
  if (status === 415)
    return new M2Error(
      'request.unsupported_media_type',
      'The body must be JSON, or a piece of an upload where one is sent',
    );
  return status < 500 ? new M2Error('request.invalid', error.message) : M2Error.from(error);
}
