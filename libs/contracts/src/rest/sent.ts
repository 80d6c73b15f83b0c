import { z } from 'zod';
import { M2Error } from '../errors/index.js';
import { type AnyRoute, fieldsInPath, hasBody } from './route.js';

/** A request as it came: what stood in the path, in the query and in the body. */
export interface Sent {
  params: Record<string, unknown>;
  query: Record<string, unknown>;
  body: unknown;
}

/**
 * The input of a use case, put together from a request, not checked yet.
 * Throws M2Error `request.invalid` for what stands where the route does not look for it: it would be left out silently.
 */
export function gather(route: AnyRoute, { params, query, body }: Sent): unknown {
  const inPath = Object.fromEntries(fieldsInPath(route).map((field) => [field, params[field]]));
  const beside = hasBody(route) ? (body ?? {}) : fromText(route.useCase.input, query);
  // A body that is no object is not an input with a few fields missing.
  if (typeof beside !== 'object' || beside === null || Array.isArray(beside)) return beside;
  const [parameter] = hasBody(route) ? Object.keys(query) : [];
  if (parameter !== undefined) throw misplaced(parameter, 'is in the query, and belongs into the body');
  const twice = Object.keys(inPath).find((field) => Object.hasOwn(beside, field));
  if (twice !== undefined) throw misplaced(twice, 'is in the path, and belongs nowhere else');
  return { ...beside, ...inPath };
}

function misplaced(at: string, message: string): M2Error {
  return new M2Error('request.invalid', `${at}: ${message}`, { issues: [{ at, message }] });
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
