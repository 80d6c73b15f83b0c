import { describe, expect, it } from 'vitest';
import { type ErrorCode, errorCatalogue, isErrorCode, M2Error, type RetryClass, toProblem } from './index.js';

const codes = Object.keys(errorCatalogue) as ErrorCode[];

describe.each(codes)('%s', (code) => {
  const kind = errorCatalogue[code] as {
    status: number;
    title: string;
    remedy: string;
    retry: RetryClass;
    untouched?: boolean;
  };

  it('has a code in lower case with dots, a status of an error, a sentence and a remedy', () => {
    expect(code).toMatch(/^(internal|[a-z]+\.[a-z]+(_[a-z]+)*)$/);
    expect(kind.status).toBeGreaterThanOrEqual(400);
    expect(kind.status).toBeLessThan(600);
    expect(kind.title).toMatch(/^[A-Z].*[^.\s]$/);
    expect(kind.remedy).toMatch(/^[A-Z].*\.(json)?\.?$/);
  });

  it('is final where the same call cannot succeed later', () => {
    // 4xx: what was asked is wrong, or something is in the way that somebody has to take away.
    expect(kind.status < 500 && kind.retry !== 'final').toBe(false);
  });

  it('leaves as problem details', () => {
    const problem = toProblem(
      new M2Error(code, 'This very case', { disk: 'web-1' }),
      '0af7651916cd43dd8448eb211c80319c',
    );
    expect(problem).toEqual({
      type: `urn:m2:error:${code}`,
      title: kind.title,
      status: kind.status,
      detail: code === 'internal' ? kind.title : 'This very case',
      code,
      remedy: kind.remedy,
      traceId: '0af7651916cd43dd8448eb211c80319c',
      about: { disk: 'web-1' },
    });
  });
});

describe('an error', () => {
  it('that broke inside tells a stranger nothing of the inside', () => {
    const problem = toProblem(M2Error.from(new Error('connect to 10.0.0.7 with password hunter2 failed')));
    expect(problem.code).toBe('internal');
    expect(JSON.stringify(problem)).not.toMatch(/10\.0\.0\.7|hunter2/);
    expect(problem).not.toHaveProperty('traceId');
    expect(problem).not.toHaveProperty('about');
  });

  it('crosses the wire whole', () => {
    const error = new M2Error('disk.in_use', 'Held by a provision', { provision: 'p' });
    const crossed = M2Error.fromValue(JSON.parse(JSON.stringify(error.toValue())) as never);
    expect(crossed).toMatchObject({ code: 'disk.in_use', detail: 'Held by a provision', about: { provision: 'p' } });
    expect(crossed.status).toBe(409);
  });

  it('with a code that we do not know (of a newer service) is internal', () => {
    expect(M2Error.fromValue({ code: 'disk.on_fire' as never, detail: 'x' }).code).toBe('internal');
    for (const code of ['toString', 'constructor', '__proto__', 'hasOwnProperty', '', 7, null])
      expect([code, isErrorCode(code)]).toEqual([code, false]);
    expect(M2Error.from(Object.assign(new Error('x'), { code: 'toString' })).code).toBe('internal');
  });

  it('of a driver keeps its code, its sentence and its cause', () => {
    const driver = Object.assign(new Error('Nothing answers'), { code: 'bmc.unreachable' });
    expect(M2Error.from(driver)).toMatchObject({ code: 'bmc.unreachable', detail: 'Nothing answers', cause: driver });
    expect(M2Error.from(driver).untouched).toBe(true);
  });

  it('that holds what a device said can be kept by PostgreSQL', () => {
    expect(M2Error.from(new Error('the BMC said \0\0 and hung up')).toValue().detail).toBe(
      'the BMC said \ufffd\ufffd and hung up',
    );
  });

  it('can be made of whatever was thrown', () => {
    for (const thrown of [undefined, null, 'text', 7, {}, Symbol('x')])
      expect(M2Error.from(thrown).code).toBe('internal');
  });
});
