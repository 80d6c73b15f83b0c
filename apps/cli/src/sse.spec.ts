import * as fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { protocolError } from './errors.js';
import { EventParser, ServerSentEvents } from './sse.js';

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

describe('a stream that is lost', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  it('is not given up because somebody sets the clock', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    let tries = 0;
    const events = new ServerSentEvents({
      patience: 60_000,
      refuse: async () => new Error('refused'),
      unreachable: () => new Error('given up'),
      connect: async () => {
        tries += 1;
        if (tries === 3) throw protocolError('the test ends here');
        // oxlint-disable-next-line no-restricted-properties -- it is set
        if (tries === 2) vi.setSystemTime(Date.now() + 3_600_000);
        throw new Error('connection refused');
      },
    });
    await expect(events.read().next()).rejects.toThrow('the test ends here');
  });
});
