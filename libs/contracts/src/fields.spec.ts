import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as fields from './fields.js';

const accepts = (schema: { safeParse(value: unknown): { success: boolean } }, value: unknown) =>
  schema.safeParse(value).success;

const letters = 'abcdefghijklmnopqrstuvwxyz0123456789';
const inner = fc.string({ unit: fc.constantFrom(...letters, '-', '_'), maxLength: 30 });
const edge = fc.constantFrom(...letters);

describe('a name', () => {
  it('may be letters, digits, dots, dashes and underscores', () => {
    for (const name of ['a', '1', 'web-1', 'node_7', 'ubuntu-24.04', 'a'.repeat(63)])
      expect(name).toSatisfy((v) => accepts(fields.name, v));
    fc.assert(
      fc.property(edge, inner, edge, (first, middle, last) => {
        // `8 hex digits - 4 hex digits -` is the look of an identifier, and has its own test.
        fc.pre(!/^[0-9a-f]{8}-[0-9a-f]{4}-/.test(first + middle + last));
        expect(accepts(fields.name, first + middle + last)).toBe(true);
      }),
    );
  });

  it('takes no character that means something to a path, a script, a shell, a log or a subject', () => {
    const bad = fc.constantFrom(...'/\\\n\r\t\0\'"`$&|;<>(){}[]*?!#~%@:,=+^ \u00a0\u2028é', ...'ABCXYZ');
    fc.assert(
      fc.property(inner, bad, inner, (before, character, after) => {
        expect(accepts(fields.name, `a${before}${character}${after}z`)).toBe(false);
      }),
    );
  });

  it('accepts nothing, of all strings, that holds such a character or walks upwards', () => {
    const anything = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 70 }),
      fc.string({ unit: fc.constantFrom('a', '.', '/', '-', '\n', '0') }),
    );
    fc.assert(
      fc.property(anything, (text) => {
        const isHarmless = /^[a-z0-9._-]{1,63}$/.test(text) && !text.includes('..') && !/^[._-]|[._-]$/.test(text);
        expect(accepts(fields.name, text) && !isHarmless).toBe(false);
      }),
      { numRuns: 500 },
    );
  });

  it('refuses the ends and the doubles that mean something', () => {
    const refused = ['', '.', '..', 'a..b', '-a', 'a-', '.a', 'a.', '_a', 'a_', 'a\n', '\na', 'a'.repeat(64)];
    expect(refused.filter((name) => accepts(fields.name, name))).toEqual([]);
  });

  it('never looks like an identifier, so that either can be given in the same place', () => {
    fc.assert(
      fc.property(fc.uuid(), inner, (uuid, more) => {
        expect([accepts(fields.id, uuid), accepts(fields.nameOrId, uuid)]).toEqual([true, true]);
        expect(accepts(fields.name, uuid)).toBe(false);
        expect(accepts(fields.name, `${uuid}${more}`.slice(0, 63))).toBe(false);
      }),
    );
  });
});

describe('a MAC address', () => {
  const octet = fc.integer({ min: 0, max: 255 }).map((value) => value.toString(16).padStart(2, '0'));
  const octets = fc.array(octet, { minLength: 6, maxLength: 6 });

  it('is kept in lower case with colons, however it is written', () => {
    fc.assert(
      fc.property(octets, fc.constantFrom(':', '-'), fc.boolean(), (parts, separator, upper) => {
        const written = upper ? parts.join(separator).toUpperCase() : parts.join(separator);
        expect(fields.mac.parse(written)).toBe(parts.join(':'));
      }),
    );
  });

  it('has six octets and nothing else', () => {
    const refused = [
      '',
      '52:54:00:12:34',
      '52:54:00:12:34:56:78',
      '525400123456',
      '52:54:00:12:34:5g',
      '52:54:00:12:34:56\n',
      ' 52:54:00:12:34:56',
    ];
    expect(refused.filter((mac) => accepts(fields.mac, mac))).toEqual([]);
  });
});

describe('an iSCSI name', () => {
  it('may be what we make', () => {
    const made = ['iqn.2018-10.io.m2:m1a2b3c4dimg7', 'iqn.2018-10.io.m2:node.0198f7a0-0000-7000-8000-000000000000'];
    expect(made.filter((iqn) => !accepts(fields.iqn, iqn))).toEqual([]);
  });

  it('takes nothing that would end it in a script or a command', () => {
    fc.assert(
      fc.property(
        inner,
        fc.constantFrom(...' \n\t"\'$&|;,/{}()\\%', 'A'),
        inner,
        (before, character, after) => !accepts(fields.iqn, `iqn.2018-10.io.m2:${before}${character}${after}`),
      ),
    );
    const refused = [
      '',
      'iqn.2018-10.io.m2:',
      'eui.02004567A425678D',
      'iqn.18-10.io.m2:a',
      `iqn.2018-10.io.m2:${'a'.repeat(230)}`,
    ];
    expect(refused.filter((iqn) => accepts(fields.iqn, iqn))).toEqual([]);
  });
});

describe('other fields', () => {
  it('keep a checksum in lower case', () => {
    expect(fields.sha256.parse('AB'.repeat(32))).toBe('ab'.repeat(32));
    for (const wrong of ['ab', 'zz'.repeat(32), `${'ab'.repeat(32)}\n`])
      expect(accepts(fields.sha256, wrong)).toBe(false);
  });

  it('page by a cursor that the database can take, and by at most 500', () => {
    expect(fields.page.parse({})).toEqual({ limit: 100 });
    expect(fields.page.parse({ limit: 7, cursor: 'web-1.x_y' })).toEqual({ limit: 7, cursor: 'web-1.x_y' });
    for (const limit of [0, 501, 1.5, 'x', '7', -1, ''])
      expect([limit, accepts(fields.page, { limit })]).toEqual([limit, false]);
    // PostgreSQL's text holds no NUL: such a cursor would be a server error.
    for (const cursor of ['a\0b', 'a b', "a'b", 'a'.repeat(257)]) expect(accepts(fields.page, { cursor })).toBe(false);
  });
});

it('a text holds what PostgreSQL keeps as JSON: no NUL, and no half of a character', () => {
  expect(accepts(fields.text, 'one 🚀')).toBe(true);
  for (const text of ['\0', 'one \ud83d', '\ude80 two']) expect(accepts(fields.text, text)).toBe(false);
});
