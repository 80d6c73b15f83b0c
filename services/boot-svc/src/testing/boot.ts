import { type Call, exportCredentials, type InputOf, type ReplyOf } from '@m2/contracts';
import { answer, openTestEnvironment, type OwnPostgres } from '@m2/service-kit/testing';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomUUID } from 'node:crypto';
import { bootService } from '../service.js';

export interface NodeAnswer {
  status: number;
  type: string | undefined;
  text: string;
}

/** The boot service with real PostgreSQL and NATS, a stand-in for iscsi-svc, and nodes that ask from addresses of their own. */
export async function openBoot(postgres: OwnPostgres) {
  const directory = mkdtempSync(join(tmpdir(), 'm2-boot-'));
  // The errors are part of the tests: keep them out of the output.
  const quiet = { write: () => true } as unknown as NodeJS.WritableStream;
  const env = await openTestEnvironment(postgres);
  const { kit, app } = await env.run(
    bootService,
    {
      M2_BOOT_LISTEN: '127.0.0.1:0',
      M2_BOOT_URL: 'http://boot.example.org:7401',
      M2_BOOT_DIRECTORY: directory,
    },
    quiet,
  );
  const { port } = (app as NestFastifyApplication).getHttpServer().address() as AddressInfo;
  const [bus, iscsi] = await Promise.all([env.bus(), env.bus('iscsi')]);
  const credentials = { reply: async (): Promise<ReplyOf<typeof exportCredentials>> => login };
  const asked = answer(iscsi, exportCredentials, () => credentials.reply());
  await iscsi.connection.flush();
  let count = 0;
  return {
    kit,
    postgres,
    /** What iscsi-svc answers, and was asked. */
    credentials,
    asked: asked.requests,
    tell: <C extends Call>(call: C, input: InputOf<C>, effect = `${randomUUID()}/step/do`): Promise<ReplyOf<C>> =>
      bus.request(call, input, { deadlineMs: 10_000, effect, fence: 1 }),
    ask: <C extends Call>(call: C, input: InputOf<C>): Promise<ReplyOf<C>> =>
      bus.request(call, input, { deadlineMs: 10_000 }),
    /** What a boot is armed with; each has its own nic. */
    boot(more: object = {}) {
      const mac = `52:54:00:00:00:${(count += 1).toString(16).padStart(2, '0')}`;
      const ids = {
        configId: randomUUID(),
        project: randomUUID(),
        provision: randomUUID(),
        node: randomUUID(),
        exportId: randomUUID(),
      };
      return { ...ids, nodeName: `node-${count}`, mac, initiator: login.initiator, ...more };
    },
    /** Asks as firmware or a system does, from an address of its own (all of 127.0.0.0/8 is this machine). */
    http: (method: string, path: string, from = '127.0.0.1', body?: unknown, headers: Record<string, string> = {}) =>
      new Promise<NodeAnswer>((resolve, reject) => {
        const json = body === undefined ? {} : { 'content-type': 'application/json' };
        const asking = request(
          { host: '127.0.0.1', port, method, path, localAddress: from, headers: { ...json, ...headers } },
          (response) => {
            let text = '';
            response.on('data', (part: Buffer) => (text += part.toString()));
            response.on('end', () =>
              resolve({ status: response.statusCode ?? 0, type: response.headers['content-type'], text }),
            );
          },
        );
        asking.on('error', reject);
        asking.end(body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body));
      }),
    async events(entity: string) {
      const rows = await kit.database.query<{ type: string; data: Record<string, unknown> }>(
        'SELECT type, data FROM m2_outbox WHERE entity = $1 ORDER BY sequence',
        [entity],
      );
      return rows;
    },
    async close() {
      await env.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

export const login = {
  iqn: 'iqn.2018-10.io.m2:m1a2b3c4img7',
  lun: 1 as const,
  initiator: 'iqn.2018-10.io.m2:node.1',
  portals: [{ address: '10.1.0.1', port: 3260 }],
  user: 'm2-user',
  secret: 'hunter2hunter2hunter2aa',
};

export type TestBoot = Awaited<ReturnType<typeof openBoot>>;
