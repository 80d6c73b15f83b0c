import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EventParser } from './sse.js';

const parse = (chunks: string[]) => {
  const parser = new EventParser();
  return chunks.flatMap((chunk) => [...parser.push(chunk)]);
};

describe('EventParser', () => {
  it('reads fields, comments, several lines of data, and events without data', () => {
    const text = ': hello\n\nid: 7\nevent: change\ndata: a\ndata:b\ndata\n\nevent: empty\n\ndata: last\n\n';
    expect(parse([text])).toEqual([
      { type: 'change', data: 'a\nb\n', id: '7' },
      { type: 'message', data: 'last', id: '7' },
    ]);
  });

  it('keeps back what is not complete', () => {
    expect(parse(['data: half\n'])).toEqual([]);
    expect(parse(['data: half\n', '\n'])).toHaveLength(1);
  });

  it('ignores an id with a NUL, and takes an empty one', () => {
    expect(parse(['id: a\0b\ndata: 1\n\nid: x\ndata: 2\n\nid\ndata: 3\n\n']).map(({ id }) => id)).toEqual([
      '',
      'x',
      '',
    ]);
  });

  it('reads the same however the stream is cut, with each kind of line end', () => {
    const line = fc.constantFrom('data: x', 'data:', 'id: 1', 'event: e', ': c', '', 'data: ü€', 'unknown: y');
    const ending = fc.constantFrom('\n', '\r\n', '\r');
    const stream = fc.array(fc.tuple(line, ending)).map((lines) => `${lines.flat().join('')}\n\n`);
    fc.assert(
      fc.property(stream, fc.array(fc.nat(200)), (text, cuts) => {
        const at = [0, ...cuts.filter((cut) => cut < text.length).sort((a, b) => a - b), text.length];
        const chunks = at.slice(1).map((end, index) => text.slice(at[index], end));
        expect(parse(chunks)).toEqual(parse([text]));
      }),
    );
  });

  it('refuses an event that does not end', () => {
    const parser = new EventParser();
    expect(() => {
      for (let i = 0; i < 100; i += 1) expect([...parser.push('x'.repeat(100_000))]).toEqual([]);
    }).toThrow('too long');
  });
});
