import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';

/** The door of a service: a real HTTP server, which answers as a test says, and keeps what came. */
export class Door {
  readonly seen: IncomingMessage[] = [];
  /** What it does with a request. */
  handle: (request: IncomingMessage, response: ServerResponse) => unknown = (_request, response) => response.end();

  private constructor(private readonly server: Server) {
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      this.seen.push(request);
      request.on('error', () => {});
      this.handle(request, response);
    });
  }

  static async open(): Promise<Door> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Door(server);
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  get last(): IncomingMessage {
    return this.seen.at(-1)!;
  }

  close(): void {
    this.server.closeAllConnections();
    this.server.close();
  }
}
