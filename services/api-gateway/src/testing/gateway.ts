import type { Operation, Role } from '@m2/contracts';
import { type TestEnvironment, openTestEnvironment } from '@m2/service-kit/testing';
import type { Type } from '@nestjs/common';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { AddressInfo } from 'node:net';
import { gatewayService } from '../service.js';
import { StandIns } from './stand-ins.js';

export const adminToken = 'an-admin-token-of-the-tests-of-the-gateway';

export interface Answer {
  status: number;
  headers: Headers;
  body: never;
  text: string;
}

interface Sent {
  token?: string | undefined;
  body?: unknown;
  headers?: Record<string, string>;
}

/** A gateway with real PostgreSQL and NATS, in this process, and stand-ins for the services behind it. */
export interface TestGateway {
  env: TestEnvironment;
  standIns: StandIns;
  kit: Awaited<ReturnType<typeof startReplica>>['kit'];
  app: Awaited<ReturnType<typeof startReplica>>['app'];
  origin: string;
  /** Starts another replica on the same database. */
  replica(environment?: Record<string, string>): ReturnType<typeof startReplica>;
  /** Asks as the admin unless a token (or `undefined`, none) is given. */
  ask(method: string, path: string, sent?: Sent): Promise<Answer>;
  /** A new token, with its value. */
  token(role: Role, project?: string): Promise<string>;
  project(name: string): Promise<{ id: string; name: string }>;
  /** Waits until an operation ends, and answers it. */
  ended(operation: { id: string }): Promise<OperationBody>;
  close(): Promise<void>;
}

export type OperationBody = Operation;

async function startReplica(env: TestEnvironment, environment: Record<string, string>, module?: Type) {
  const definition = module ? { ...gatewayService, module } : gatewayService;
  const quiet = { write: () => true } as unknown as NodeJS.WritableStream;
  const running = await env.run(
    definition,
    { M2_LISTEN: '127.0.0.1:0', M2_ADMIN_TOKEN: adminToken, ...environment },
    quiet,
  );
  const { port } = (running.app as NestFastifyApplication).getHttpServer().address() as AddressInfo;
  return { ...running, origin: `http://127.0.0.1:${port}` };
}

export async function openGateway(
  options: { module?: Type; environment?: Record<string, string> } = {},
): Promise<TestGateway> {
  const env = await openTestEnvironment();
  const standIns = new StandIns(await env.bus('image'));
  const database = { M2_DATABASE_URL: await env.postgres.database(), ...options.environment };
  const { kit, app, origin } = await startReplica(env, database, options.module);
  const ask = async (method: string, path: string, sent: Sent = {}): Promise<Answer> => {
    const token = 'token' in sent ? sent.token : adminToken;
    const isText = typeof sent.body === 'string';
    const response = await fetch(new URL(path, origin), {
      method,
      redirect: 'manual',
      headers: {
        ...(token && { authorization: `Bearer ${token}` }),
        ...(sent.body !== undefined && { 'content-type': 'application/json' }),
        ...sent.headers,
      },
      ...(sent.body !== undefined && { body: isText ? (sent.body as string) : JSON.stringify(sent.body) }),
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.includes('json') ?? false;
    return {
      status: response.status,
      headers: response.headers,
      text,
      body: (isJson && text ? JSON.parse(text) : undefined) as never,
    };
  };
  let count = 0;
  return {
    env,
    standIns,
    kit,
    app,
    origin,
    replica: (environment = {}) => startReplica(env, { ...database, ...environment }, options.module),
    ask,
    async token(role, project) {
      const name = `t-${(count += 1)}`;
      const made = await ask('POST', '/v1/tokens', { body: { name, role, ...(project && { project }) } });
      return (made.body as { value: string }).value;
    },
    async project(name) {
      return (await ask('POST', '/v1/projects', { body: { name } })).body;
    },
    async ended({ id }) {
      for (;;) {
        const operation = (await ask('GET', `/v1/operations/${id}`)).body as OperationBody;
        if (operation.endedAt || operation.state === 'needs_attention') return operation;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    close: () => env.close(),
  };
}
