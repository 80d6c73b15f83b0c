import { M2Error } from '@m2/contracts';
import type { Kit } from '@m2/service-kit';
import type { ArgumentsHost } from '@nestjs/common';
import { expect, it } from 'vitest';
import { ProblemFilter } from './problem-filter.js';

/** The headers of the answer to a failure, where these challenges are those of the authenticators. */
function headersFor(failure: M2Error, challenges: string[]) {
  const headers: Record<string, string> = {};
  const reply = {
    raw: { once: () => {} },
    request: { raw: { complete: true } },
    header: (name: string, value: string) => ((headers[name] = value), reply),
    status: () => reply,
    type: () => reply,
    send: () => reply,
  };
  const http = { getRequest: () => ({ url: '/v1/nodes', method: 'GET' }), getResponse: () => reply };
  const filter = new ProblemFilter({ log: { error: () => {} } } as unknown as Pick<Kit, 'log'>, { challenges });
  filter.catch(failure, { switchToHttp: () => http } as unknown as ArgumentsHost);
  return headers;
}

it('who is not known is told of every kind of credentials that an authenticator takes', () => {
  const missing = new M2Error('auth.missing', 'There is no Authorization header');
  expect(headersFor(missing, ['Bearer', 'Basic realm="m2"'])).toMatchObject({
    'www-authenticate': 'Bearer, Basic realm="m2"',
  });
  expect(headersFor(new M2Error('auth.forbidden', 'No'), ['Bearer'])).not.toHaveProperty('www-authenticate');
});
