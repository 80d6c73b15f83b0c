import { type AnyRoute, allRoutes, gather, M2Error, type Operation } from '@m2/contracts';
import { Controller, HttpCode, Inject, Req, RequestMapping, RequestMethod, Res, SetMetadata } from '@nestjs/common';
import { RouteConfig } from '@nestjs/platform-fastify';
import type { FastifyReply } from 'fastify';
import type { Admission } from '../../access/access.js';
import { UseCases } from '../../use-cases/use-cases.js';
import { sendStream, wantsStream } from './event-stream.js';
import { passOn } from './pass-on.js';
import type { AdmittedRequest, RouteSettings } from './request.js';
import { ROUTE } from './rest.guard.js';

/**
 * The REST API, made from its routes: each has a method of its own here, which puts the input together, has the use case run, and answers
 * with what comes of it.
 */
@Controller()
export class RestController {
  constructor(@Inject(UseCases) private readonly useCases: UseCases) {}

  private async serve(route: AnyRoute, request: AdmittedRequest, reply: FastifyReply): Promise<void> {
    const admission = admissionOf(request);
    const { params, query, body } = request as { params: object; query: object; body: unknown };
    const sent = { params: { ...params }, query: { ...query }, body };
    // A part of an upload has headers of its own, and its bytes for a body.
    if (route.transfer) return this.transfer(admission, gather(route, sent), request, reply);
    if (route.useCase.followed && wantsStream(request)) return this.stream(route, admission, sent, request, reply);
    const answer = await this.useCases.run(admission, gather(route, sent), keyOf(request));
    // RFC 9110, section 10.2.2: where to watch what was accepted.
    if (route.status === 202) reply.header('location', `/v1/operations/${(answer as Operation).id}`);
    void reply.status(route.status).send(route.status === 204 ? undefined : answer);
  }

  private async transfer(
    admission: Admission,
    input: unknown,
    request: AdmittedRequest,
    reply: FastifyReply,
  ): Promise<void> {
    const over = endedWith(reply);
    passOn(request, reply, await this.useCases.transfer(admission, input, over), over.signal);
  }

  /** WHATWG HTML, section 9.2: a client that comes back says after which event. */
  private stream(
    route: AnyRoute,
    admission: Admission,
    sent: Parameters<typeof gather>[1],
    request: AdmittedRequest,
    reply: FastifyReply,
  ): Promise<void> {
    const resumed = request.headers['last-event-id'];
    const canResume = 'cursor' in route.useCase.input.shape && typeof resumed === 'string';
    const query = { ...sent.query, ...(canResume && { cursor: resumed }) };
    const over = endedWith(reply);
    return sendStream(reply, over, () => this.useCases.follow(admission, gather(route, { ...sent, query }), over));
  }
}

/** Aborted when the answer is complete, or nobody is there to read it. */
function endedWith({ raw }: FastifyReply): AbortController {
  const over = new AbortController();
  raw.once('close', () => over.abort());
  // Who left before we were here does not say so again.
  if (raw.destroyed) over.abort();
  return over;
}

const methods = {
  GET: RequestMethod.GET,
  POST: RequestMethod.POST,
  PUT: RequestMethod.PUT,
  PATCH: RequestMethod.PATCH,
  HEAD: RequestMethod.HEAD,
  DELETE: RequestMethod.DELETE,
};

/** A method for each route, with Nest's decorators on it as a person would write them. */
for (const route of allRoutes) {
  const { prototype } = RestController as unknown as { prototype: Record<string, unknown> & RestController };
  const value = function (this: RestController, request: AdmittedRequest, reply: FastifyReply) {
    return this['serve'](route, request, reply);
  };
  Object.defineProperty(prototype, route.name, { value, writable: true, configurable: true });
  Req()(prototype, route.name, 0);
  Res()(prototype, route.name, 1);
  const descriptor = Object.getOwnPropertyDescriptor(prototype, route.name)!;
  for (const decorate of [
    RequestMapping({ path: route.path.replaceAll(/\{(\w+)\}/g, ':$1'), method: methods[route.method] }),
    HttpCode(route.status),
    SetMetadata(ROUTE, route),
    RouteConfig({ upload: route.transfer === 'upload' } satisfies RouteSettings),
  ])
    decorate(prototype, route.name, descriptor);
}

function admissionOf({ admission }: AdmittedRequest): Admission {
  if (!admission) throw new M2Error('auth.missing', 'Nobody asked');
  return admission;
}

/** The `Idempotency-Key`. Throws M2Error `request.invalid`. */
function keyOf({ headers }: AdmittedRequest): string | undefined {
  const key = headers['idempotency-key'];
  if (key === undefined) return undefined;
  if (typeof key === 'string' && /^[\x21-\x7e]{1,255}$/.test(key)) return key;
  throw new M2Error('request.invalid', 'Idempotency-Key must be 1 to 255 printable ASCII characters');
}
