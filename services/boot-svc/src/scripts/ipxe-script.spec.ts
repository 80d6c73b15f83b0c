import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bootFromDisk, type DiskBoot } from './boot-from-disk.js';
import { Reference, renderScript, UnsafeValue, type Statement } from './ipxe-script.js';

const unsafe = expect.objectContaining({ code: 'boot.unsafe_value' }) as Error;
const boot: DiskBoot = {
  node: 'web-1',
  initiator: 'iqn.2026-01.org.example.m2:web-1',
  target: 'iqn.2026-01.org.example.m2:disk-1',
  portals: [{ address: '10.0.0.5', port: 3260 }],
  chap: { user: 'u1', password: 'p1' },
};

/** Scripts in which the value stands wherever one can stand. */
const carriers: Record<string, (value: string) => string> = {
  set: (value) => renderScript([{ do: 'set', setting: 'password', value }]),
  echo: (value) => renderScript([{ do: 'echo', text: ['M2:', value] }]),
  sanboot: (path) => renderScript([{ do: 'sanboot', drive: '0x80', path }]),
  when: (value) => renderScript([{ do: 'when', equal: [value, '1'], act: { do: 'exit' } }]),
  label: (name) => renderScript([{ do: 'label', name }]),
  'node of a boot': (node) => bootFromDisk({ ...boot, node }),
  'initiator of a boot': (initiator) => bootFromDisk({ ...boot, initiator }),
  'target of a boot': (target) => bootFromDisk({ ...boot, target }),
  'portal of a boot': (address) => bootFromDisk({ ...boot, portals: [{ address, port: 3260 }] }),
  'CHAP user of a boot': (user) => bootFromDisk({ ...boot, chap: { user, password: 'p1' } }),
  'CHAP password of a boot': (password) => bootFromDisk({ ...boot, chap: { user: 'u1', password } }),
};

const lines = (script: string) => script.split(/[\n\r\v\f\x85\u2028\u2029]/).length;
const count = (script: string, part: string) => script.split(part).length - 1;
/** What the shape of a script is: it must be the same for every value. */
const shape = (script: string) => ({
  lines: lines(script),
  references: count(script, '${'),
  joints: count(script, '||') + count(script, '&&'),
  comments: count(script, '#'),
  commands: script.split('\n').map((line) => line.split(' ')[0]?.replace(/^:.*/, ':')),
});

const carried = (carry: (value: string) => string, value: string): ReturnType<typeof shape> | Error => {
  try {
    return shape(carry(value));
  } catch (error) {
    return error as Error;
  }
};

/** Text as an attacker would type it: pieces of iPXE's syntax among ordinary words. */
const pieces = [
  'a',
  'b-1',
  '0',
  '.',
  ':',
  '/',
  ' ',
  '  ',
  '\n',
  '\r\n',
  '\t',
  '\0',
  '#',
  '#!ipxe',
  '$',
  '{',
  '}',
  '${',
];
const more = [
  '${net0/mac}',
  '${password}',
  '&&',
  '||',
  '|',
  '&',
  '"',
  "'",
  '\\',
  '-',
  '--drive',
  '%0a',
  '\u2028',
  'ä',
  ';',
];
const hostile = fc.oneof(
  fc.string({ unit: fc.constantFrom(...pieces, ...more), maxLength: 8 }),
  fc.string({ unit: 'binary', maxLength: 40 }),
);
const harmless = fc.stringMatching(/^[a-z0-9][a-z0-9.-]{0,20}$/);

describe.each(Object.entries(carriers))('a value in %s', (_, carry) => {
  it('never changes the number of lines, of references, of commands or of comments', () => {
    const expected = shape(carry('x'));
    fc.assert(
      fc.property(fc.oneof(hostile, harmless), (value) => {
        const outcome = carried(carry, value);
        expect(outcome instanceof UnsafeValue ? expected : outcome).toEqual(expected);
      }),
      { numRuns: 500 },
    );
  });

  it('is carried as it is when it is harmless', () => {
    fc.assert(fc.property(harmless, (value) => void expect(carry(value)).toContain(value)));
  });

  it.each([...pieces, ...more].filter((piece) => !/^[a-z0-9.:/-]+$/.test(piece) || piece.startsWith('-')))(
    'is refused with a %j first, last and in the middle',
    (piece) => {
      for (const value of [piece, `${piece}x`, `x${piece}`, `x${piece}x`].filter((value) => !/^x[- ]/.test(value))) {
        expect(() => carry(value)).toThrow(unsafe);
      }
    },
  );
});

describe('renderScript', () => {
  it('does not say the value that it refuses', () => {
    expect(() => carriers['set']?.('s3cret value')).toThrow(expect.not.stringContaining('s3cret'));
  });

  it('takes no object for a reference that only looks like one', () => {
    const forged = JSON.parse('{"setting":"password"}') as Reference;
    expect(() => renderScript([{ do: 'set', setting: 'username', value: forged }])).toThrow(unsafe);
    expect(() => new Reference('password' as 'errno')).toThrow(unsafe);
  });

  it.each([-1, 1.5, Number.NaN, Infinity, 2 ** 60])('refuses to sleep %s seconds', (seconds) => {
    expect(() => renderScript([{ do: 'sleep', seconds }])).toThrow(unsafe);
  });

  it('finds jumps that lead nowhere, and labels that are there twice', () => {
    const jump: Statement = { do: 'goto', label: 'nowhere' };
    const label: Statement = { do: 'label', name: 'here' };
    expect(() => renderScript([jump])).toThrow('There is no label nowhere');
    expect(() => renderScript([{ do: 'try', attempt: { do: 'exit' }, otherwise: jump }])).toThrow('nowhere');
    expect(() => renderScript([{ do: 'when', equal: ['1', '1'], act: jump }])).toThrow('nowhere');
    expect(() => renderScript([label, label])).toThrow('twice');
  });
});
