import { describe, expect, it } from 'vitest';
import { connectErrorOf, errorOf } from './rbd-error.ts';

describe('an error', () => {
  it.each([
    [2, 'not_found'],
    [17, 'exists'],
    [16, 'busy'],
    [39, 'busy'],
    [28, 'full'],
    [122, 'full'],
    [110, 'timeout'],
    [108, 'unavailable'],
    [107, 'unavailable'],
    [1, 'denied'],
    [13, 'denied'],
    [22, 'invalid'],
    [30, 'invalid'],
    [5, 'failed'],
  ])('with errno %d is %s', (errno, code) => {
    expect(errorOf({ call: 'rbd_open', errno })).toMatchObject({ name: 'RbdError', code, errno, call: 'rbd_open' });
  });

  it('says what failed, why, and what to do', () => {
    const { message } = errorOf({ call: 'mon command auth get', errno: 2, text: 'failed to find client.x' });
    expect(message).toBe(
      'mon command auth get: ENOENT, failed to find client.x. Check the names in the request: one of them is not there.',
    );
  });

  it('of a connection is never that of a missing image', () => {
    const missing = connectErrorOf({ call: 'rados_conf_read_file', errno: 2 });
    expect(missing).toMatchObject({ code: 'unavailable', errno: 2 });
    expect(connectErrorOf({ call: 'rados_connect', errno: 110 })).toMatchObject({ code: 'timeout' });
    expect(connectErrorOf({ call: 'rados_connect', errno: 13 })).toMatchObject({ code: 'denied' });
    expect(connectErrorOf({ call: 'connect', text: 'cannot open librbd.so.1' })).toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('librbd.so.1') as string,
    });
  });
});
