import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';

export interface ReadinessCheck {
  name: string;
  /** Throws when the part is not usable. */
  check(): Promise<void>;
}

/** Something that a person has to know of, while the service does all that it is asked. */
export interface Alarm {
  name: string;
  /** What is wrong, in a few words; undefined when nothing is. */
  check(): Promise<string | undefined>;
}

const checkDeadlineMs = 2_000;

/** Health (the process lives), readiness (its parts answer; and what is wrong all the same) and metrics, away from the doors that tenants and nodes use. */
export class OpsServer {
  private constructor(private readonly server: Server) {}

  static async listen(
    address: { host: string; port: number },
    checks: () => ReadinessCheck[],
    alarms: () => Alarm[],
    metricsText: () => Promise<string>,
  ): Promise<OpsServer> {
    const server = createServer((request, response) => {
      const send = (status: number, body: string, type = 'application/json') =>
        response.writeHead(status, { 'content-type': type }).end(body);
      const fail = (error: unknown) => send(500, JSON.stringify({ error: String(error) }));
      if (request.url === '/healthz') send(200, '{"status":"ok"}');
      else if (request.url === '/readyz')
        readiness(checks(), alarms()).then((result) => send(result.ready ? 200 : 503, JSON.stringify(result)), fail);
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

async function readiness(checks: ReadinessCheck[], alarms: Alarm[]) {
  const told = Promise.all(
    // What cannot be looked at is a part that is not there, and told as such.
    alarms.map(async ({ name, check }) => [name, await withDeadline(check()).catch(() => undefined)] as const),
  );
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
  return {
    ready: parts.every(([, state]) => state === 'ok'),
    parts: Object.fromEntries(parts),
    alarms: Object.fromEntries((await told).filter(([, text]) => text !== undefined)),
  };
}

async function withDeadline<T>(work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`no answer within ${checkDeadlineMs} ms`)), checkDeadlineMs);
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}
