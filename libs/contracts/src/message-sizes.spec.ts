import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { calls, events } from './catalogue.js';
import * as fields from './fields.js';

/** What NATS takes, less what headers may need. */
const room = 1024 * 1024 - 4_096;
/** A page holds what fits (`pageWithin` of the kit): of one item, there must be room for many. */
const roomForItem = room / 8;

/** JSON writes half a character as six letters: no character takes more. */
const perCharacter = 6;
const quotes = 2;

type Def = { type: string } & Record<string, unknown>;
interface Check {
  check: string;
  maximum?: number;
  length?: number;
  pattern?: RegExp;
}

/** What zod keeps of a schema, or of a check. */
// oxlint-disable-next-line no-underscore-dangle -- zod's name for what libraries may read
const defOf = <Kept = Def>(of: unknown): Kept => (of as { _zod: { def: Kept } })._zod.def;

const checksOf = (def: Def): Check[] => ((def['checks'] ?? []) as unknown[]).map((check) => defOf<Check>(check));
const limitOf = (def: Def): number | undefined => {
  const limits = checksOf(def).flatMap(({ maximum, length, check }) =>
    check === 'max_length' || check === 'length_equals' ? (maximum ?? length ?? []) : [],
  );
  return limits.length > 0 ? Math.min(...limits) : undefined;
};

class Unbounded extends Error {}

/** The bytes of the largest value that a schema takes, as JSON. Throws where there is no largest one. */
function largest(schema: unknown, at: string): number {
  if (schema === fields.about) return fields.aboutLimit * perCharacter;
  const def = defOf(schema);
  const inside = (name: string, more = at) => largest(def[name], more);
  const most = (options: unknown[]) => Math.max(...options.map((option) => largest(option, at)));
  switch (def.type) {
    case 'string':
      return quotes + stringOf(def, at);
    case 'number':
      return 24;
    case 'boolean':
      return 5;
    case 'null':
      return 4;
    case 'literal':
      return Math.max(...(def['values'] as unknown[]).map((value) => JSON.stringify(value).length));
    case 'enum':
      return quotes + Math.max(...Object.values(def['entries'] as object).map((value) => String(value).length));
    case 'optional':
    case 'default':
    case 'prefault':
    case 'nullable':
      return Math.max(4, inside('innerType'));
    case 'readonly':
    case 'catch':
      return inside('innerType');
    case 'pipe':
      return smallest([def['in'], def['out']], at);
    case 'union':
      return most(def['options'] as unknown[]);
    case 'array': {
      const limit = limitOf(def);
      if (limit === undefined) throw new Unbounded(`${at} is a list without an end`);
      return 2 + limit * (1 + inside('element', `${at}[]`));
    }
    case 'object':
      return Object.entries(def['shape'] as Record<string, unknown>).reduce(
        (sum, [name, field]) => sum + name.length + 4 + largest(field, `${at}.${name}`),
        2,
      );
    default:
      throw new Unbounded(`${at} is of a kind without a largest value: ${def.type}`);
  }
}

/** Of a value that has to pass all of them. */
function smallest(schemas: unknown[], at: string): number {
  const sizes = schemas.flatMap((schema) => {
    try {
      return largest(schema, at);
    } catch (error) {
      if (error instanceof Unbounded) return [];
      throw error;
    }
  });
  if (sizes.length === 0) throw new Unbounded(`${at} has no end`);
  return Math.min(...sizes);
}

/** Formats whose values have one length, or nearly. */
const lengths: Record<string, number> = { uuid: 36, datetime: 40, ipv4: 15, ipv6: 45 };

function stringOf(def: Def, at: string): number {
  const known = lengths[String(def['format'])];
  if (known !== undefined) return known;
  const limit = limitOf(def);
  if (limit === undefined) throw new Unbounded(`${at} is a text without an end`);
  // Where a pattern says what the characters are, they are plain ASCII.
  const isPlain = checksOf(def).some(({ pattern }) => pattern && /^\^(\(\?:)*\(?\[[\w\\.-]+\]/.test(pattern.source));
  return limit * (isPlain ? 1 : perCharacter);
}

const isPage = (schema: z.ZodType): schema is z.ZodObject<{ items: z.ZodArray<z.ZodType> }> =>
  schema instanceof z.ZodObject && 'items' in schema.shape && 'next' in schema.shape;

describe.each(calls.map((call) => [call.subject, call] as const))('%s', (_, call) => {
  it('has requests that fit into a message', () => {
    expect(largest(call.request, 'request')).toBeLessThan(room);
  });

  it('has answers that fit into a message', () => {
    const { reply } = call;
    const [one, limit] = isPage(reply) ? [reply.shape.items.element, roomForItem] : [reply, room];
    expect(largest(one, 'reply')).toBeLessThan(limit);
  });
});

describe.each(events.map((event) => [event.subject, event] as const))('%s', (_, event) => {
  it('fits into a message', () => {
    expect(largest(event.data, 'data')).toBeLessThan(room);
  });
});

describe('the measure', () => {
  it('finds what has no end', () => {
    expect(() => largest(z.object({ a: z.array(z.object({ b: z.string() })).max(2) }), 'x')).toThrow(
      'x.a[].b is a text',
    );
    expect(() => largest(z.object({ a: z.array(z.boolean()) }), 'x')).toThrow('x.a is a list');
    expect(() => largest(z.record(z.string(), z.string()), 'x')).toThrow('record');
  });

  it('is no less than what a value takes', () => {
    const schema = z.object({ a: z.string().max(3), b: z.array(fields.id).max(2), c: fields.time.nullable() });
    const value = { a: '\ud800\ud800\ud800', b: Array(2).fill(crypto.randomUUID()), c: new Date().toISOString() };
    expect(schema.safeParse(value).success).toBe(true);
    expect(largest(schema, 'x')).toBeGreaterThanOrEqual(JSON.stringify(value).length);
  });
});

describe('an error', () => {
  it('that is told at length is told as far as there is room', async () => {
    const { M2Error } = await import('./errors/index.js');
    const error = new M2Error('internal', `${'x'.repeat(1_999)}\u{1f600}`, { all: 'y'.repeat(5_000) }).toValue();
    expect(fields.errorValue.safeParse(error).success).toBe(true);
    expect(error.detail.isWellFormed()).toBe(true);
  });
});
