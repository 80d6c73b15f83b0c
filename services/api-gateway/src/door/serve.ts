import { type AnyRoute, M2Error, type Project } from '@m2/contracts';
import {
  applyDecorators,
  createParamDecorator,
  type ExecutionContext,
  HttpCode,
  RequestMapping,
  RequestMethod,
  SetMetadata,
} from '@nestjs/common';
import { RouteConfig } from '@nestjs/platform-fastify';
import { createHash } from 'node:crypto';
import type { z } from 'zod';
import type { Actor } from '../access/actor.js';
import type { Idempotency } from '@m2/saga';
import type { Commission } from '../operations/commission.js';
import type { M2Request } from './request.js';

export const ROUTE = Symbol('m2 route');

const methods = {
  GET: RequestMethod.GET,
  POST: RequestMethod.POST,
  PUT: RequestMethod.PUT,
  PATCH: RequestMethod.PATCH,
  HEAD: RequestMethod.HEAD,
  DELETE: RequestMethod.DELETE,
};

/** What Fastify knows of a route: only one that takes an upload gets a body that nobody has read. */
export interface RouteSettings {
  upload?: boolean;
}

/** Binds a controller's method to a route of the catalogue. */
export const Serve = (route: AnyRoute): MethodDecorator =>
  applyDecorators(
    RequestMapping({ path: route.path.replaceAll(/\{(\w+)\}/g, ':$1'), method: methods[route.method] }),
    HttpCode(route.status),
    SetMetadata(ROUTE, route),
    RouteConfig({ upload: route.transfer === 'upload' } satisfies RouteSettings),
  );

export interface Input<R> {
  params: R extends { params: z.ZodType } ? z.infer<R['params']> : never;
  query: R extends { query: z.ZodType } ? z.infer<R['query']> : never;
  body: R extends { body: z.ZodType } ? z.infer<R['body']> : undefined;
}

/** The request's values, checked against the route. Throws M2Error `request.invalid`. */
export const Given = createParamDecorator((route: AnyRoute, context: ExecutionContext): Input<AnyRoute> => {
  const request = context.switchToHttp().getRequest<M2Request>();
  return {
    params: check(route.params, request.params, 'path'),
    query: check(route.query, request.query, 'query') as never,
    body: (route.body ? check(route.body, request.body ?? {}, 'body') : undefined) as never,
  };
});

function check<S extends z.ZodType>(schema: S, value: unknown, where: string): z.infer<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map((issue) => ({ at: [where, ...issue.path].join('.'), message: issue.message }));
  throw new M2Error('request.invalid', issues.map(({ at, message }) => `${at}: ${message}`).join('; '), { issues });
}

const actorOf = ({ actor }: M2Request): Actor => {
  if (!actor) throw new M2Error('auth.missing', 'Nobody asked');
  return actor;
};

const projectOf = ({ project }: M2Request): Project => {
  if (!project) throw new M2Error('project.not_found', 'The path names no project');
  return project;
};

/** Who asks; the guard put it there. */
export const Who = createParamDecorator((_: unknown, context: ExecutionContext) =>
  actorOf(context.switchToHttp().getRequest<M2Request>()),
);

/** The project of the path; the guard has seen that the actor may reach it. */
export const In = createParamDecorator((_: unknown, context: ExecutionContext) =>
  projectOf(context.switchToHttp().getRequest<M2Request>()),
);

/** The `Idempotency-Key`, with a hash of what it was sent with. Throws M2Error `request.invalid`. */
export function idempotencyOf(request: M2Request): Idempotency | undefined {
  const key = request.headers['idempotency-key'];
  if (key === undefined) return undefined;
  if (typeof key !== 'string' || !/^[\x21-\x7e]{1,255}$/.test(key))
    throw new M2Error('request.invalid', 'Idempotency-Key must be 1 to 255 printable ASCII characters');
  const sent = `${request.method} ${request.url}\n${JSON.stringify(request.body ?? null)}`;
  return { key, hash: createHash('sha256').update(sent).digest() };
}

export const By = createParamDecorator((_: unknown, context: ExecutionContext): Commission => {
  const request = context.switchToHttp().getRequest<M2Request>();
  return { actor: actorOf(request), project: projectOf(request), idempotency: idempotencyOf(request) };
});
