import { z } from 'zod';
import { type ErrorCode, errorCatalogue } from './errors/index.js';
import { type AnyRoute, allRoutes, fieldsBeside, fieldsInPath, hasBody } from './rest/index.js';
import { named } from './schema-names.js';
import { capabilities } from './use-cases/index.js';

type Json = Record<string, unknown>;

/** Errors that any route may answer; the rest are named by the use case. */
const everywhere: ErrorCode[] = [
  'request.invalid',
  'auth.missing',
  'auth.invalid',
  'auth.forbidden',
  'service.unavailable',
  'internal',
];

const forEverybody: ErrorCode[] = ['request.invalid', 'internal'];

const problem = {
  type: 'object',
  description: 'RFC 9457 problem details: what went wrong, and what to do about it',
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

const schemas = 'components/schemas';

/** The REST door as an OpenAPI 3.1 document. */
export function openApi(): Json {
  const components = new Components();
  const paths: Record<string, Json> = {};
  for (const route of allRoutes) {
    const item = (paths[route.path] ??= {});
    item[route.method.toLowerCase()] = operationOf(route, components);
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'M2',
      version: '1',
      description: 'Malleable Metal as a Service: bare-metal nodes that boot from network disks.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      contact: { name: 'The operator of this installation' },
    },
    servers: [{ url: '/', description: 'The gateway that this document came from' }],
    tags: Object.entries(capabilities).map(([name, description]) => ({ name, description })),
    paths,
    components: {
      securitySchemes: { token: { type: 'http', scheme: 'bearer', description: 'The value of a token' } },
      schemas: { Problem: problem, ...components.schemas() },
    },
  };
}

/** Collects the named schemas that the paths refer to. */
class Components {
  private readonly found = new Map<string, Json>();

  /** The JSON Schema of what is sent (`input`) or answered (`output`); things with a name are references. */
  of(schema: z.ZodType, io: 'input' | 'output'): Json {
    const {
      $schema: _,
      $defs = {},
      ...json
    } = z.toJSONSchema(schema, {
      io,
      unrepresentable: 'any',
      metadata: named,
      override: ({ jsonSchema }) => {
        delete jsonSchema.id;
        // As the gateway has it: a field that it does not know is refused.
        if (io === 'input' && jsonSchema.type === 'object') jsonSchema.additionalProperties ??= false;
        if (io === 'output') delete jsonSchema.additionalProperties;
      },
    }) as { $schema?: unknown; $defs?: Record<string, Json> } & Json;
    const suffix = io === 'input' ? 'Input' : '';
    const moved = (value: unknown): unknown =>
      JSON.parse(JSON.stringify(value).replaceAll(/"#\/\$defs\/(\w+)"/g, `"#/${schemas}/$1${suffix}"`));
    for (const [name, definition] of Object.entries($defs)) this.found.set(name + suffix, moved(definition) as Json);
    return moved(json) as Json;
  }

  /** The fields of an input, also of one that has a name of its own. */
  fieldsOf(input: z.ZodObject): { properties: Record<string, Json>; required: string[] } {
    const object = z.object({ ...input.shape });
    const { properties = {}, required = [] } = this.of(object, 'input') as {
      properties?: Record<string, Json>;
      required?: string[];
    };
    return { properties, required };
  }

  schemas(): Record<string, Json> {
    return Object.fromEntries([...this.found].toSorted(([a], [b]) => (a < b ? -1 : 1)));
  }
}

function operationOf(route: AnyRoute, components: Components): Json {
  const { useCase } = route;
  const input = components.fieldsOf(useCase.input);
  const { properties, required } = input;
  const beside = fieldsBeside(route);
  const parameter = (name: string, where: 'path' | 'query', isRequired: boolean): Json => {
    const { description = inPath(name), ...schema }: Json = fieldsInPath(route).concat(beside).includes(name)
      ? { ...properties[name] }
      : { type: 'string' };
    return { name, in: where, required: isRequired, description, schema };
  };
  const parameters = route.params.map((name) => parameter(name, 'path', true));
  if (!hasBody(route)) parameters.push(...beside.map((name) => parameter(name, 'query', required.includes(name))));
  if (route.method === 'POST' && route.transfer === null)
    parameters.push({
      name: 'Idempotency-Key',
      in: 'header',
      description: 'The same key and request have the same answer; another request with the key is refused',
      schema: { type: 'string', maxLength: 255 },
    });
  const roles = route.allow === 'public' ? 'Anybody may, without a token.' : `Roles: ${route.allow.join(', ')}.`;
  return {
    operationId: route.name,
    tags: [useCase.capability],
    summary: useCase.summary,
    description: roles,
    security: route.allow === 'public' ? [] : [{ token: [] }],
    parameters,
    ...(hasBody(route) && beside.length > 0 && { requestBody: bodyOf(route, input, beside) }),
    ...(route.name === 'uploadAppend' && {
      requestBody: { required: true, content: { 'application/offset+octet-stream': {} } },
    }),
    responses: { [route.status]: successOf(route, components), ...problemsOf(route) },
  };
}

const inPath = (name: string) => (name === 'id' ? 'The identifier' : `Name or identifier of the ${name}`);

function bodyOf(
  { useCase }: AnyRoute,
  { properties, required }: { properties: Record<string, Json>; required: string[] },
  fields: string[],
): Json {
  const only = (of: object) => Object.fromEntries(Object.entries(of).filter(([name]) => fields.includes(name)));
  const needed = required.filter((name) => fields.includes(name));
  const schema = {
    type: 'object',
    properties: only(properties),
    ...(needed.length > 0 && { required: needed }),
    additionalProperties: false,
  };
  return {
    required: needed.length > 0,
    content: { 'application/json': { schema, ...(useCase.example && { example: only(useCase.example) }) } },
  };
}

const octets: Json = { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } };

function successOf(route: AnyRoute, components: Components): Json {
  const { summary, output, followed } = route.useCase;
  if (route.transfer === 'download') return { description: summary, content: octets };
  if (!output || route.transfer) return { description: 'Done' };
  const content: Json = { 'application/json': { schema: components.of(output, 'output') } };
  if (followed) content['text/event-stream'] = { schema: { type: 'string' } };
  const location = { description: 'Where to watch the operation', schema: { type: 'string' } };
  return {
    description: summary,
    content,
    ...(route.useCase.kind === 'operation' && { headers: { Location: location } }),
  };
}

function problemsOf(route: AnyRoute): Json {
  const { errors, followed } = route.useCase;
  const own = followed ? [...errors, 'request.too_many_streams' as const] : errors;
  const codes = route.allow === 'public' ? forEverybody : [...new Set([...everywhere, ...own])];
  const byStatus = Map.groupBy(codes, (code) => errorCatalogue[code].status);
  return Object.fromEntries(
    [...byStatus].map(([status, ofStatus]) => [
      status,
      {
        description: ofStatus.map((code) => `\`${code}\`: ${errorCatalogue[code].title}`).join('. '),
        content: { 'application/problem+json': { schema: { $ref: `#/${schemas}/Problem` } } },
      },
    ]),
  );
}
