import type { ServerResponse } from 'node:http';
import { FakeGateway, ids, json, operationOf } from './gateway.js';
import { Person } from './person.js';

/** A gateway, and somebody who is logged in to it. */
export const start = async (terminal = false) => {
  const gateway = await FakeGateway.start();
  return { gateway, person: new Person({ env: gateway.env, terminal }) };
};

export const operationPath = `GET /v1/operations/${ids.operation}`;
export const accept = (_seen: unknown, response: ServerResponse) => json(response, 202, operationOf('running'));
