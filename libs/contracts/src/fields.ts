import { z } from 'zod';

/** Identifiers are UUIDs (version 7 where we make them). */
export const id = z.uuid();

/**
 * A name that a person chose. It ends in volume comments, boot scripts, logs and shell completions, so it is narrow: lower-case letters,
 * digits, dots, dashes, underscores; it starts and ends with a letter or digit, and has no two dots in a row. It never looks
 * like an identifier, so that `web-1` and `0198…-…` can be given in the same place.
 */
const looksLikeId = /^[0-9a-f]{8}-[0-9a-f]{4}-/;
export const name = z
  .string()
  .max(63)
  .regex(
    /^[a-z0-9](?:(?:[a-z0-9_-]|\.(?!\.))*[a-z0-9])?$/,
    'must be lower-case letters, digits, dots, dashes or underscores, and start and end with a letter or digit',
  )
  .refine((value) => !looksLikeId.test(value), 'must not look like a UUID');

export const nameOrId = z.union([id, name], 'must be a name or an identifier');
/** Which of the two a `nameOrId` is; a name may look like the beginning of an identifier. */
export const isId = (value: string): boolean => id.safeParse(value).success;

/** IEEE 802 MAC address, kept in lower case with colons. */
export const mac = z
  .string()
  .transform((value) => value.toLowerCase().replaceAll('-', ':'))
  .pipe(
    z
      .string()
      .max(17)
      .regex(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/, 'must be a MAC address such as 52:54:00:12:34:56'),
  );

/** Free text without control characters: those would move a terminal's cursor, and PostgreSQL refuses NUL, and half a character. */
// oxlint-disable-next-line no-control-regex -- \P{Cc} says the same, but not every reader of our JSON Schemas knows it
const noControls = /^[^\u0000-\u001f\u007f-\u009f]*$/u;
export const text = z
  .string()
  .regex(noControls, 'must not hold control characters')
  .refine((value) => value.isWellFormed(), 'must not hold half a character');

/** Why a person decided something that is unusual; it goes on record. */
export const reason = text.min(1).max(500);

/** What a service or a device says, in a sentence or two. */
export const sentence = z.string().max(2_000);
/** A name of the storage, of a network or of a program: what is longer is none. */
export const label = z.string().max(255);

export const bytes = z.int().nonnegative();
export const time = z.iso.datetime();
export const sha256 = z
  .string()
  .toLowerCase()
  .max(64)
  .regex(/^[0-9a-f]{64}$/, 'must be 64 hexadecimal digits (SHA-256)');

/** iSCSI qualified name, RFC 3720 section 3.2.6.3.1; narrower than the RFC: what tgt and iPXE both take. */
export const iqn = z
  .string()
  .regex(/^iqn\.\d{4}-\d{2}\.[a-z0-9.-]+(:[a-z0-9._:-]+)?$/)
  .max(223);

const largestPage = 500;

/** Cursor pagination: `next` is handed back as `cursor`; it is absent on the last page. */
export const page = z.object({
  cursor: z
    .string()
    .max(256)
    .regex(/^[A-Za-z0-9._-]*$/, 'is not a cursor of this list')
    .optional()
    .describe('Where to go on: `next` of the page before'),
  limit: z.int().min(1).max(largestPage).default(100).describe('How many at most'),
});

export const pageOf = <Item extends z.ZodType>(item: Item) =>
  z.object({ items: z.array(item).max(largestPage), next: z.string().max(256).optional() });

export const portal = z.object({ address: label, port: z.int() });

/** What a storage hands to a target: a file of the same machine, or an RBD image with the cephx user that may open it. */
export const backingStore = z.discriminatedUnion('type', [
  z.object({ type: z.literal('file'), path: z.string().max(4096) }),
  z.object({ type: z.literal('rbd'), pool: label, namespace: label, image: label, user: label }),
]);

/** How much of what an error is about is told, as JSON. */
export const aboutLimit = 2_000;
/** Fields without a schema; as JSON, no more than that. */
export const about = z
  .record(z.string(), z.unknown())
  .refine((value) => JSON.stringify(value).length <= aboutLimit, 'is too much');

export const errorValue = z.object({ code: z.string().max(64), detail: sentence, about: about.optional() });
