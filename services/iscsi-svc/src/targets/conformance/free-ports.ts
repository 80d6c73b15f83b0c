import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';

/** A port that was free just now, with room for `count` after it; some of these may be in use. */
export async function freePorts(count: number): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port + count > 65_535 ? freePorts(count) : port;
}
