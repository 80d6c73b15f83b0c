import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';

export interface ReadinessCheck {
  name: string;
  /** Throws when the part is not usable. */
  check(): Promise<void>;
}

const checkDeadlineMs = 2_000;

/** Health (the process lives), readiness (its parts answer) and metrics, away from the doors that tenants and nodes use. */
export class OpsServer {
  private constructor(private readonly server: Server) {}

  static async listen(
    address: { host: string; port: number },
    checks: () => ReadinessCheck[],
    metricsText: () => Promise<string>,
  ): Promise<OpsServer> {
    const server = createServer((request, response) => {
      const send = (status: number, body: string, type = 'application/json') =>
        response.writeHead(status, { 'content-type': type }).end(body);
      const fail = (error: unknown) => send(500, JSON.stringify({ error: String(error) }));
      if (request.url === '/healthz') send(200, '{"status":"ok"}');
      else if (request.url === '/readyz')
        readiness(checks()).then((result) => send(result.ready ? 200 : 503, JSON.stringify(result)), fail);
      else if (request.url === '/metrics')
        metricsText().then((text) => send(200, text, 'text/plain; version=0.0.4'), fail);
      else send(404, '{"error":"not found"}');
    });
    server.listen(address.port, address.host);
    await once(server, 'listening');
    return new OpsServer(server);
  }

  get address(): { host: string; port: number } {
    const { address, port } = this.server.address() as AddressInfo;
    return { host: address, port };
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }
}

async function readiness(checks: ReadinessCheck[]) {
  const parts = await Promise.all(
    checks.map(async ({ name, check }) => {
      try {
        await withDeadline(check());
        return [name, 'ok'] as const;
      } catch (error) {
        return [name, error instanceof Error ? error.message : String(error)] as const;
      }
    }),
  );
  return { ready: parts.every(([, state]) => state === 'ok'), parts: Object.fromEntries(parts) };
}

async function withDeadline(work: Promise<void>): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`no answer within ${checkDeadlineMs} ms`)), checkDeadlineMs);
  try {
    await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}
