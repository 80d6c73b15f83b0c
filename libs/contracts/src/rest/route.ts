import type { z } from 'zod';
import type { Role } from '../gateway.js';
import { rolesThatMay } from '../permissions.js';
import type { AnyUseCase } from '../use-cases/use-case.js';

type Method = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
type ParamsOf<Line extends string> = Line extends `${string}{${infer Param}}${infer Rest}`
  ? Param | ParamsOf<Rest>
  : never;

/** A use case at a path of the REST API. Its fields that the path does not name are in the query or in the body, as the method has it. */
export interface Route<C extends AnyUseCase = AnyUseCase, Line extends string = string> {
  /** The client's name of it. */
  name: string;
  useCase: C;
  /** Method and path, as `GET /v1/projects/{project}`. */
  line: Line;
  method: Method;
  /** OpenAPI form: `/v1/projects/{project}`. */
  path: string;
  /** The names in braces. */
  params: ParamsOf<Line>[];
  /** Where the fields of the input are that the path does not name. */
  rest: 'query' | 'body';
  status: 200 | 201 | 202 | 204;
  /** Bytes, not JSON, in the body (`upload`) or in the answer (`download`); the gateway passes them on. */
  transfer: 'upload' | 'download' | null;
  /** Roles that may; `public`: anybody, without a token. */
  allow: readonly Role[] | 'public';
}
export type AnyRoute = Omit<Route, 'params'> & { params: string[] };

/** The path names the project of a use case of the project, and fields of its input. */
type InPath<C extends AnyUseCase, Line extends string> = C['scope'] extends 'project'
  ? Exclude<ParamsOf<Line>, 'project'>
  : ParamsOf<Line>;
/** What is sent beside the path. */
type Beside<R> = R extends { useCase: infer C extends AnyUseCase; line: infer Line extends string }
  ? Omit<z.input<C['input']>, InPath<C, Line>>
  : never;
type WithBody = { line: `${'POST' | 'PUT' | 'PATCH'} ${string}` };

export type PathInput<R> = R extends { line: infer Line extends string } ? Record<ParamsOf<Line>, string> : never;
export type BodyInput<R> = R extends WithBody ? Beside<R> : undefined;
export type QueryInput<R> = R extends WithBody
  ? undefined
  : { [Field in keyof Beside<R>]?: string | number | boolean | undefined };

export const hasBody = (route: Pick<AnyRoute, 'rest'>): boolean => route.rest === 'body';

/** The fields of the input that the path names. */
export const fieldsInPath = ({ useCase, params }: AnyRoute): string[] =>
  params.filter((param) => !(useCase.scope === 'project' && param === 'project'));

/** The fields of the input that are in the query or the body. */
export const fieldsBeside = (route: AnyRoute): string[] => {
  const named = fieldsInPath(route);
  return Object.keys(route.useCase.input.shape).filter((field) => !named.includes(field));
};

/** Binds a use case to a method and a path. */
export function route<C extends AnyUseCase, const Line extends `${Method} /${string}`>(
  useCase: C,
  line: Line,
  { status, transfer = null }: Partial<Pick<Route, 'status' | 'transfer'>> = {},
): Omit<Route<C, Line>, 'name'> {
  const [method, path] = line.split(' ') as [Method, string];
  const { kind, output, permission, scope, input } = useCase;
  const params = [...path.matchAll(/\{(\w+)\}/g)].map(([, param]) => param as ParamsOf<Line>);
  const unknown = params.filter((param) => !(param in input.shape) && !(scope === 'project' && param === 'project'));
  if (unknown.length > 0) throw new Error(`${line} names ${unknown.join(', ')}, which ${useCase.name} does not have`);
  if (scope === 'project' && !(params as string[]).includes('project')) throw new Error(`${line} names no project`);
  const usual = kind === 'operation' ? 202 : output === null ? 204 : 200;
  return {
    useCase,
    line,
    method,
    path,
    params,
    rest: ['POST', 'PUT', 'PATCH'].includes(method) && transfer === null ? 'body' : 'query',
    status: status ?? usual,
    transfer,
    allow: permission === 'public' ? 'public' : rolesThatMay(permission),
  };
}
