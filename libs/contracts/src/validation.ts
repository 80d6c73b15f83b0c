import { z } from 'zod';
import { M2Error } from './errors/index.js';
import type { AnyUseCase, InputOfUseCase } from './use-cases/use-case.js';

interface Issue {
  /** The field, as `nics.0.mac`; empty: the input as a whole. */
  at: string;
  /** A sentence about it, without its name. */
  message: string;
}

/**
 * Checks the input of a use case. Every field has to be one that it knows: a misspelt one would be left out silently.
 * Throws M2Error `request.invalid`, which names each field that is wrong, in `about.issues` too.
 */
export function checkInput<C extends AnyUseCase>(useCase: C, given: unknown): InputOfUseCase<C> {
  const parsed = useCase.input.safeParse(given, { error: sentenceOf });
  const unknown = unknownFields(useCase.input, given, []);
  if (parsed.success && unknown.length === 0) return parsed.data as InputOfUseCase<C>;
  const wrong = parsed.success ? [] : parsed.error.issues.map(({ path, message }) => ({ at: path.join('.'), message }));
  const issues = [...unknown, ...wrong];
  const detail = issues.map(({ at, message }) => (at === '' ? message : `${at}: ${message}`)).join('; ');
  throw new M2Error('request.invalid', detail, { issues });
}

const kinds: Record<string, string> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  object: 'an object',
  record: 'an object',
  array: 'a list',
};

/** What zod found, in people's words; a sentence that the contract gives itself comes first. */
export const sentenceOf: z.core.$ZodErrorMap = (issue) => {
  switch (issue.code) {
    case 'invalid_type':
      return issue.input === undefined ? 'is missing' : `must be ${kinds[issue.expected] ?? issue.expected}`;
    case 'too_big':
      return limit(issue.origin, 'at most', issue.maximum);
    case 'too_small':
      return limit(issue.origin, 'at least', issue.minimum);
    case 'invalid_value':
      return issue.input === undefined ? 'is missing' : `must be ${oneOf(issue.values)}`;
    case 'invalid_format':
      return `must be ${formats[issue.format] ?? `of the form ${issue.pattern ?? issue.format}`}`;
    case 'invalid_union':
      if (issue.input === undefined) return 'is missing';
      return 'options' in issue && Array.isArray(issue.options)
        ? `must be ${oneOf(issue.options)}`
        : 'has a wrong value';
    case 'invalid_key':
      return 'has a key that is not allowed';
    case 'not_multiple_of':
      return `must be a multiple of ${issue.divisor}`;
    default:
      return undefined;
  }
};

const formats: Record<string, string> = {
  uuid: 'an identifier (a UUID)',
  datetime: 'a time such as 2026-11-29T00:00:00Z',
  url: 'a URL',
  ipv4: 'an IPv4 address',
  ipv6: 'an IPv6 address',
};

const oneOf = (values: readonly unknown[]) =>
  values.length === 1 ? String(values[0]) : `one of ${values.map(String).join(', ')}`;

function limit(origin: string, bound: string, value: number | bigint): string {
  if (origin === 'string')
    return value === 1 && bound === 'at least' ? 'must not be empty' : `must have ${bound} ${value} characters`;
  if (origin === 'array') return `must have ${bound} ${value} ${value === 1n || value === 1 ? 'entry' : 'entries'}`;
  return `must be ${bound} ${value}`;
}

/** The fields of a value, at any depth, that its schema does not know. */
function unknownFields(schema: z.ZodType, value: unknown, path: (string | number)[]): Issue[] {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodNullable)
    return unknownFields(schema.unwrap() as z.ZodType, value, path);
  if (Array.isArray(value))
    return schema instanceof z.ZodArray
      ? value.flatMap((one, index) => unknownFields(schema.element as z.ZodType, one, [...path, index]))
      : [];
  if (typeof value !== 'object' || value === null) return [];
  const object = objectFor(schema, value);
  if (!object) return [];
  const known = Object.keys(object.shape);
  return Object.entries(value).flatMap(([key, inside]) =>
    Object.hasOwn(object.shape, key)
      ? unknownFields(object.shape[key] as z.ZodType, inside, [...path, key])
      : [{ at: [...path, key].join('.'), message: notKnown(key, known) }],
  );
}

/** Of several kinds of object, the one that the value says it is. */
function objectFor(schema: z.ZodType, value: object): z.ZodObject | undefined {
  if (schema instanceof z.ZodObject) return schema;
  if (!(schema instanceof z.ZodDiscriminatedUnion)) return undefined;
  const options = schema.options as z.ZodObject[];
  return options.find((option) => {
    const tag = option.shape[schema.def.discriminator] as z.ZodType;
    return tag.safeParse((value as Record<string, unknown>)[schema.def.discriminator]).success;
  });
}

function notKnown(key: string, known: string[]): string {
  const plain = (text: string) => text.toLowerCase().replaceAll(/[^a-z0-9]/g, '');
  const meant = known.find((one) => plain(one) === plain(key));
  if (meant) return `is not known; ${meant} is`;
  return known.length === 0
    ? 'is not known; there is nothing to say here'
    : `is not known; known are ${known.join(', ')}`;
}
