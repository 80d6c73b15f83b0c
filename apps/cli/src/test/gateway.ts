import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { type ErrorCode, M2Error, type Operation, toProblem } from '@m2/contracts';
import { onTestFinished } from 'vitest';

export interface Seen {
  method: string;
  path: string;
  query: URLSearchParams;
  headers: IncomingMessage['headers'];
  body: unknown;
  raw: Buffer;
}

type Answer = (seen: Seen, response: ServerResponse) => unknown;

/** Answers with JSON; what a handler returns is sent with 200. */
export const json = (response: ServerResponse, status: number, body: unknown) => {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
};

export const refuse = (code: ErrorCode, detail: string): Answer => {
  const problem = toProblem(new M2Error(code, detail));
  return (_seen, response) => {
    response.writeHead(problem.status, { 'content-type': 'application/problem+json' }).end(JSON.stringify(problem));
  };
};

/** Streams these values as events, one after the other, and then ends the connection. */
export const events =
  (...values: { id?: string }[]): Answer =>
  (_seen, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    for (const value of values) response.write(`id: ${value.id}\nevent: change\ndata: ${JSON.stringify(value)}\n\n`);
    response.end();
  };

/** A gateway that says what a test tells it to say, and remembers what it was asked. */
export class FakeGateway {
  readonly seen: Seen[] = [];
  readonly #answers = new Map<string, Answer[]>();
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    server.on('request', (request, response) => void this.#handle(request, response));
  }

  static async start(): Promise<FakeGateway> {
    const gateway = new FakeGateway(createServer());
    gateway.#server.listen(0, '127.0.0.1');
    await once(gateway.#server, 'listening');
    onTestFinished(() => gateway.stop());
    return gateway;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get env(): Record<string, string> {
    return { M2_URL: this.url, M2_TOKEN: 'secret-token', M2_PROJECT: 'lab' };
  }

  /** What `METHOD /path` answers: one answer after the other, the last one for ever. */
  on(line: string, ...answers: Answer[]): this {
    this.#answers.set(line, answers);
    return this;
  }

  asked(line: string): Seen[] {
    return this.seen.filter(({ method, path }) => `${method} ${path}` === line);
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url as string, 'http://gateway');
    const raw = await buffer(request).catch(() => Buffer.alloc(0));
    const isJson = request.headers['content-type'] === 'application/json';
    const seen: Seen = {
      method: request.method as string,
      path: pathname,
      query: searchParams,
      headers: request.headers,
      body: isJson ? JSON.parse(raw.toString()) : undefined,
      raw,
    };
    this.seen.push(seen);
    const answers = this.#answers.get(`${seen.method} ${seen.path}`);
    const answer = answers && (answers.length > 1 ? answers.shift() : answers[0]);
    if (!answer) return void refuse('request.not_found', `${seen.method} ${seen.path}`)(seen, response);
    const body = await answer(seen, response);
    if (body !== undefined) json(response, 200, body);
  }
}

const uuid = (n: number) => `01980000-0000-7000-8000-${String(n).padStart(12, '0')}`;
export const ids = {
  project: uuid(1),
  image: uuid(2),
  disk: uuid(3),
  node: uuid(4),
  provision: uuid(5),
  operation: uuid(6),
  tag: uuid(7),
};
const createdAt = '2026-11-22T10:00:00.000Z';

export const samples = {
  whoami: { token: uuid(9), name: 'root', role: 'admin', project: null },
  project: { id: ids.project, name: 'lab', createdAt },
  image: {
    id: ids.image,
    project: ids.project,
    name: 'debian',
    state: 'ready',
    format: 'raw',
    sizeBytes: 2 ** 31,
    sha256: 'a'.repeat(64),
    visibility: 'private',
    sharedWith: [] as string[],
    metadata: { operatingSystem: null, architecture: null, defaultUser: null, userData: false },
    parent: null as object | null,
    createdAt,
    progress: null,
    error: null,
  },
  disk: {
    id: ids.disk,
    project: ids.project,
    name: 'web-1',
    state: 'ready',
    image: ids.image as string | null,
    fork: null as object | null,
    depth: 1,
    volume: 'x-img1',
    sizeBytes: 2 ** 31,
    holder: null as string | null,
    flattening: null,
    createdAt,
    trashedAt: null as string | null,
  },
  tag: { id: ids.tag, disk: ids.disk, name: 'v1', sizeBytes: 2 ** 31, automatic: false, createdAt },
  quota: {
    limits: { bytes: 2 ** 40, disks: 10, images: null as number | null },
    used: { bytes: 2 ** 31, disks: 1, images: 1 },
  },
  node: {
    id: ids.node,
    name: 'node-1',
    project: null,
    nics: [{ label: 'nic0', mac: '52:54:00:00:00:01' }],
    firmware: 'bios',
    bmc: { driver: 'ipmi', address: '127.0.0.1', port: 6230, user: 'admin', cipherSuites: [17, 3] },
    holder: null,
    holderProject: null,
    broken: null,
    createdAt,
  },
  provision: {
    id: ids.provision,
    project: ids.project,
    node: ids.node,
    nodeName: 'node-1',
    nic: 'nic0',
    disk: ids.disk,
    diskName: 'web-1',
    image: ids.image,
    state: 'booted',
    operation: ids.operation,
    report: null,
    createdAt,
    endedAt: null as string | null,
  },
};

const step = (name: string, state: string): Operation['steps'][number] => ({
  name,
  state: state as never,
  attempts: state === 'waiting' ? 0 : 1,
  startedAt: state === 'waiting' ? null : createdAt,
  endedAt: state === 'done' || state === 'failed' ? '2026-11-22T10:00:01.500Z' : null,
  undoStartedAt: null,
  undoEndedAt: null,
  progress: null,
  error: null,
  skipped: null,
});

/** An operation with steps such as `{ 'clone-disk': 'done' }`. */
export const operationOf = (
  state: Operation['state'],
  steps: Record<string, string> = {},
  more: Partial<Operation> = {},
): Operation => ({
  id: ids.operation,
  project: ids.project,
  kind: 'provision',
  state,
  about: { provision: ids.provision, node: ids.node },
  steps: Object.entries(steps).map(([name, state]) => step(name, state)),
  error: null,
  attention: null,
  cancellable: state === 'running',
  cancelRequested: false,
  notBefore: null,
  createdAt,
  startedAt: createdAt,
  endedAt: state === 'running' ? null : '2026-11-22T10:00:02.000Z',
  createdBy: 'root',
  ...more,
});
