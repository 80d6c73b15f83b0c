import { describe, expect, it } from 'vitest';
import { makeLog } from './log.js';

const write = (log: (logger: ReturnType<typeof makeLog>) => void, level = 'info') => {
  const lines: string[] = [];
  log(makeLog('hil', level, { write: (line: string) => lines.push(line) } as never));
  return lines;
};

describe('the log', () => {
  it('is one JSON object in each line, with time, level by name, and service', () => {
    const [line] = write((log) => log.warn({ node: 'node-1' }, 'a node is slow'));
    expect(JSON.parse(line!)).toEqual({
      level: 'warn',
      service: 'hil',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/) as string,
      node: 'node-1',
      msg: 'a node is slow',
    });
  });

  it('blanks what is named like a secret, at the top and one level down', () => {
    const secret = 'hunter2';
    const names = ['password', 'secret', 'token', 'authorization', 'chap', 'secretKey', 'phoneHome'];
    const lines = write((log) => {
      for (const name of names) {
        log.info({ [name]: secret }, 'top');
        log.info({ bmc: { address: '10.0.0.7', [name]: secret } }, 'inside');
      }
      log.info({ chap: { user: 'm2-1', secret } }, 'whole');
      log.info({ headers: { authorization: `Bearer ${secret}` } }, 'a request');
    });
    expect(lines).toHaveLength(names.length * 2 + 2);
    for (const line of lines) {
      expect(line).not.toContain(secret);
      expect(line).toContain('[redacted]');
    }
    expect(lines[1]).toContain('10.0.0.7');
  });

  it('is silent below its level', () => {
    expect(write((log) => log.info('not this'), 'warn')).toEqual([]);
  });
});
