import { z } from 'zod';
import { M2Error } from '../errors.js';
import { type AnyRoute, fieldsInPath, hasBody } from './route.js';

/** A request as it came: what stood in the path, in the query and in the body. */
export interface Sent {
  params: Record<string, unknown>;
  query: Record<string, unknown>;
  body: unknown;
}

/**
 * The input of a use case, put together from a request, not checked yet. What stands where the route does not look for it is kept, and
 * so found to be unknown: a query parameter of a route that has a body, for one.
 * Throws M2Error `request.invalid` for what the path says already.
 */
export function gather(route: AnyRoute, { params, query, body }: Sent): unknown {
  const inPath = Object.fromEntries(fieldsInPath(route).map((field) => [field, params[field]]));
  const beside = hasBody(route) ? (body ?? {}) : fromText(route.useCase.input, query);
  // A body that is no object is not an input with a few fields missing.
  if (typeof beside !== 'object' || beside === null || Array.isArray(beside)) return beside;
  const all = { ...beside, ...(hasBody(route) && query) };
  const twice = Object.keys(inPath).find((field) => Object.hasOwn(all, field));
  if (twice !== undefined) throw new M2Error('request.invalid', `${twice}: is in the path, and belongs nowhere else`);
  return { ...all, ...inPath };
}

/** Query parameters are text. What is to be a number or a truth value becomes one where it reads as one; the check says so where not. */
function fromText(input: z.ZodObject, query: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(query).map(([key, value]) => {
      const schema = Object.hasOwn(input.shape, key) ? inner(input.shape[key] as z.ZodType) : undefined;
      if (typeof value !== 'string') return [key, value];
      if (schema instanceof z.ZodBoolean && (value === 'true' || value === 'false')) return [key, value === 'true'];
      if (schema instanceof z.ZodNumber && /^-?\d{1,15}$/.test(value)) return [key, Number(value)];
      return [key, value];
    }),
  );
}

function inner(schema: z.ZodType): z.ZodType {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodNullable)
    return inner(schema.unwrap() as z.ZodType);
  return schema;
}
