import { z } from 'zod';
import { type ErrorCode, errorCatalogue } from './errors.js';
import { type AnyRoute, routes } from './rest.js';

type Json = Record<string, unknown>;

const schemaOf = (schema: z.ZodType, io: 'input' | 'output'): Json => {
  const json = z.toJSONSchema(schema, { io, unrepresentable: 'any' }) as Json;
  delete json['$schema'];
  return json;
};

/** Errors that any route may answer; the rest are named by the route. */
const everywhere: ErrorCode[] = [
  'request.invalid',
  'auth.missing',
  'auth.invalid',
  'auth.forbidden',
  'service.unavailable',
  'internal',
];

const problem = {
  type: 'object',
  required: ['type', 'title', 'status', 'detail', 'code', 'remedy'],
  properties: {
    type: { type: 'string' },
    title: { type: 'string' },
    status: { type: 'integer' },
    detail: { type: 'string' },
    code: { type: 'string', enum: Object.keys(errorCatalogue) },
    remedy: { type: 'string' },
    traceId: { type: 'string' },
    about: { type: 'object' },
  },
};

const octets: Json = { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } };

/** The REST door as an OpenAPI 3.1 document. */
export function openApi(): Json {
  const paths: Record<string, Json> = {};
  for (const route of Object.values(routes) as AnyRoute[]) {
    const item = (paths[route.path] ??= {});
    item[route.method.toLowerCase()] = operationOf(route);
  }
  return {
    openapi: '3.1.0',
    info: { title: 'M2', version: '1', description: 'Malleable Metal as a Service', license: { name: 'Apache-2.0' } },
    paths,
    components: {
      securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
      schemas: { Problem: problem },
    },
  };
}

function operationOf(route: AnyRoute): Json {
  const parameters = [...parametersOf(route.params, 'path', true), ...parametersOf(route.query, 'query', false)];
  const startsOperation = route.status === 202 && !route.path.startsWith('/v1/operations');
  if (startsOperation)
    parameters.push({
      name: 'Idempotency-Key',
      in: 'header',
      description: 'The same key and request return the same operation; another request with it is refused',
      schema: { type: 'string', maxLength: 255 },
    });
  return {
    operationId: route.name,
    summary: route.summary,
    security: route.allow === 'public' ? [] : [{ token: [] }],
    ...(route.allow !== 'public' && { description: `Roles: ${[...new Set([...route.allow, 'admin'])].join(', ')}.` }),
    parameters,
    ...(route.body && {
      requestBody: { required: true, content: { 'application/json': { schema: schemaOf(route.body, 'input') } } },
    }),
    ...(route.name === 'uploadAppend' && {
      requestBody: { required: true, content: { 'application/offset+octet-stream': {} } },
    }),
    responses: { [route.status]: successOf(route, startsOperation), ...problemsOf(route) },
  };
}

function parametersOf(schema: z.ZodType, where: string, required: boolean): Json[] {
  const { properties = {}, required: needed = [] } = schemaOf(schema, 'input') as {
    properties?: Json;
    required?: string[];
  };
  return Object.entries(properties).map(([name, json]) => ({
    name,
    in: where,
    required: required || needed.includes(name),
    schema: json,
  }));
}

function successOf(route: AnyRoute, startsOperation: boolean): Json {
  if (route.transfer === 'download') return { description: route.summary, content: octets };
  if (!route.response) return { description: 'Done' };
  const content: Json = { 'application/json': { schema: schemaOf(route.response, 'output') } };
  if (route.stream) content['text/event-stream'] = { schema: { type: 'string' } };
  const location = { description: 'Where to watch the operation', schema: { type: 'string' } };
  return { description: route.summary, content, ...(startsOperation && { headers: { Location: location } }) };
}

function problemsOf(route: AnyRoute): Json {
  const codes = route.allow === 'public' ? [] : [...everywhere, ...route.errors];
  const byStatus = Map.groupBy(codes, (code) => errorCatalogue[code].status);
  return Object.fromEntries(
    [...byStatus].map(([status, ofStatus]) => [
      status,
      {
        description: ofStatus.map((code) => `\`${code}\`: ${errorCatalogue[code].title}`).join('. '),
        content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
      },
    ]),
  );
}
