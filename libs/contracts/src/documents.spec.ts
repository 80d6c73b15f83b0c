import { describe, expect, it } from 'vitest';
import { asyncApi } from './asyncapi.js';
import { calls, events } from './catalogue.js';
import { errorCatalogue } from './errors/index.js';
import { openApi } from './openapi.js';
import { rolesThatMay } from './permissions.js';
import { allRoutes as all, hasBody, routes } from './rest/index.js';
import { type AnyUseCase, useCases } from './use-cases/index.js';
import { checkInput } from './validation.js';

type Json = Record<string, unknown>;

/** Every value inside a document, with the path to it. */
function* walk(value: unknown, path = '#'): Generator<[string, unknown]> {
  yield [path, value];
  if (typeof value !== 'object' || value === null) return;
  for (const [key, inner] of Object.entries(value)) yield* walk(inner, `${path}/${key}`);
}

/** RFC 6901, as far as our documents use it. */
const resolve = (document: unknown, pointer: string): unknown =>
  pointer
    .slice(2)
    .split('/')
    .reduce<unknown>(
      (value, key) => (value as Json | undefined)?.[key.replaceAll('~1', '/').replaceAll('~0', '~')],
      document,
    );

const references = (document: unknown) =>
  [...walk(document)].filter(([path]) => path.endsWith('/$ref')).map(([, reference]) => String(reference));

describe.each([
  ['OpenAPI', openApi],
  ['AsyncAPI', asyncApi],
])('the %s document', (_name, make) => {
  it('is plain JSON with nothing undefined in it', () => {
    const document = make();
    expect([...walk(document)].filter(([, value]) => value === undefined || typeof value === 'function')).toEqual([]);
    expect(JSON.parse(JSON.stringify(document))).toEqual(document);
    expect(JSON.stringify(document)).not.toContain('undefined');
  });

  it('has no reference that leads nowhere', () => {
    const document = make();
    for (const reference of references(document)) {
      expect(reference).toMatch(/^#\//);
      expect([reference, resolve(document, reference) === undefined]).toEqual([reference, false]);
    }
  });
});

describe('the OpenAPI document', () => {
  const document = openApi() as { openapi: string; info: Json; paths: Record<string, Record<string, Operation>> };
  interface Operation {
    operationId: string;
    summary: string;
    security: unknown[];
    parameters: { name: string; in: string; required?: boolean; schema: unknown }[];
    requestBody?: { required: boolean; content: Json };
    responses: Record<string, { description: string; content?: Json }>;
  }
  const operations = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ path, method, operation })),
  );

  it('is of version 3.1 and holds every route once', () => {
    expect(document.openapi).toMatch(/^3\.1\.\d+$/);
    expect(document.info).toMatchObject({ title: expect.any(String) as string, version: expect.any(String) as string });
    expect(operations.map(({ path, method }) => `${method.toUpperCase()} ${path}`).toSorted()).toEqual(
      all.map(({ path, method }) => `${method} ${path}`).toSorted(),
    );
    const ids = operations.map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it.each(operations.map((entry) => [`${entry.method} ${entry.path}`, entry] as const))(
    '%s is whole',
    (_name, { path, operation }) => {
      const inPath = operation.parameters.filter((parameter) => parameter.in === 'path');
      expect(inPath.map(({ name }) => name)).toEqual([...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name));
      for (const parameter of inPath) expect(parameter.required).toBe(true);
      for (const parameter of operation.parameters) {
        expect(['path', 'query', 'header']).toContain(parameter.in);
        expect(parameter.schema).toBeTypeOf('object');
      }
      expect(operation.summary).not.toBe('');
      const successes = Object.keys(operation.responses).filter((status) => status.startsWith('2'));
      expect(successes).toHaveLength(1);
      for (const [status, response] of Object.entries(operation.responses)) {
        expect(status).toMatch(/^[2-5]\d\d$/);
        expect(response.description).not.toBe('');
        const isProblem = Object.keys(response.content ?? {}).join(',') === 'application/problem+json';
        expect(isProblem).toBe(Number(status) >= 400);
      }
    },
  );

  it('asks for a token everywhere but at what is public', () => {
    for (const { operation } of operations) {
      const route = all.find(({ name }) => name === operation.operationId)!;
      expect(operation.security).toEqual(route.allow === 'public' ? [] : [{ token: [] }]);
      expect('401' in operation.responses).toBe(route.allow !== 'public');
    }
  });

  it('tells of the Idempotency-Key of each POST, and of the Location of what starts an operation', () => {
    for (const { operation } of operations) {
      const route = all.find(({ name }) => name === operation.operationId)!;
      const takesKey = route.method === 'POST' && route.transfer === null;
      expect(operation.parameters.some(({ name }) => name === 'Idempotency-Key')).toBe(takesKey);
      expect(JSON.stringify(operation.responses).includes('"Location"')).toBe(route.useCase.kind === 'operation');
    }
  });

  it('names the things of the API, and refers to them', () => {
    const { schemas } = (document as unknown as { components: { schemas: Record<string, Json> } }).components;
    expect(Object.keys(schemas)).toEqual(
      expect.arrayContaining(['Problem', 'Project', 'Image', 'Disk', 'Node', 'Operation', 'OperationStep', 'Event']),
    );
    const used = new Set(references(document));
    expect(Object.keys(schemas).filter((name) => !used.has(`#/components/schemas/${name}`))).toEqual([]);
    const answer = document.paths['/v1/projects/{project}/disks/{disk}']!['get']!.responses['200']!;
    expect(answer.content!['application/json']).toEqual({ schema: { $ref: '#/components/schemas/Disk' } });
  });

  it('shows an example of each body', () => {
    const bodies = operations.flatMap(({ operation: { operationId, requestBody } }) => {
      const body = requestBody?.content['application/json'] as { example?: unknown } | undefined;
      return body ? [[operationId, typeof body.example]] : [];
    });
    expect(bodies).toEqual(bodies.map(([name]) => [name, 'object']));
    expect(bodies.length).toBeGreaterThan(5);
  });
});

describe('the AsyncAPI document', () => {
  const document = asyncApi() as {
    asyncapi: string;
    channels: Record<string, { address: string; messages: Record<string, { payload: Json }> }>;
    operations: Record<string, { action: string; channel: { $ref: string }; reply?: unknown }>;
  };

  it('is of version 3.0 and holds every message once', () => {
    expect(document.asyncapi).toBe('3.0.0');
    const addresses = Object.values(document.channels).map(({ address }) => address);
    expect(addresses.toSorted()).toEqual([...calls, ...events].map(({ subject }) => subject).toSorted());
    expect(Object.keys(document.operations).toSorted()).toEqual(Object.keys(document.channels).toSorted());
    // Patterned Fields Object: keys of AsyncAPI 3.0.
    for (const key of Object.keys(document.channels)) expect(key).toMatch(/^[A-Za-z0-9_-]+$/);
  });

  it('receives calls and replies to them, and sends events', () => {
    for (const [key, operation] of Object.entries(document.operations)) {
      const { address, messages } = document.channels[key]!;
      const isEvent = address.startsWith('m2.evt.');
      expect(operation.action).toBe(isEvent ? 'send' : 'receive');
      expect(operation.channel).toEqual({ $ref: `#/channels/${key}` });
      expect(Object.keys(messages)).toEqual(isEvent ? ['event'] : ['request', 'reply']);
      expect('reply' in operation).toBe(!isEvent);
      for (const { payload } of Object.values(messages)) expect(payload['type']).toBe('object');
    }
  });
});

describe('the use cases', () => {
  const all = Object.values(useCases);

  it.each(all.map((useCase) => [useCase.name, useCase] as const))(
    '%s says only what the catalogue knows',
    (name, { errors, kind, output }) => {
      expect(useCases).toHaveProperty(name);
      for (const code of errors) expect(errorCatalogue).toHaveProperty([code]);
      expect(kind === 'change' || output !== null).toBe(true);
    },
  );

  it.each(all.filter(({ example }) => example !== undefined).map((useCase) => [useCase.name, useCase] as const))(
    '%s takes its example',
    (_name, useCase) => {
      expect(checkInput(useCase as AnyUseCase, useCase.example)).toMatchObject(useCase.example as object);
    },
  );

  it('let an auditor read and change nothing', () => {
    const ofAuditors = all.filter(
      ({ permission }) => permission !== 'public' && rolesThatMay(permission).includes('auditor'),
    );
    expect(new Set(ofAuditors.map(({ kind }) => kind))).toEqual(new Set(['query']));
  });
});

describe('the routes', () => {
  it('are named as they are listed, and each is at a place of its own', () => {
    for (const [key, route] of Object.entries(routes)) expect(route.name).toBe(key);
    const lines = all.map(({ method, path }) => `${method} ${path.replaceAll(/\{\w+\}/g, '{}')}`);
    expect(new Set(lines).size).toBe(lines.length);
    for (const { path } of all) expect(path).toMatch(/^\/(v1\/|healthz$)/);
  });

  it('lead to every use case', () => {
    const bound = new Set(all.map(({ useCase }) => useCase.name));
    expect(Object.keys(useCases).filter((name) => !bound.has(name))).toEqual([]);
  });

  it('have a body only where the method has one, and change nothing by GET', () => {
    const withBody = new Set(all.filter(hasBody).map(({ method }) => method));
    expect(withBody).toEqual(new Set(['POST', 'PUT', 'PATCH']));
    const byGet = all.filter(({ method }) => method === 'GET').map(({ useCase }) => useCase.kind);
    expect(new Set(byGet)).toEqual(new Set(['query']));
  });

  it('are public only where they tell nothing of anybody', () => {
    expect(all.filter(({ allow }) => allow === 'public').map(({ name }) => name)).toEqual([
      'openapi',
      'asyncapi',
      'health',
    ]);
  });
});
