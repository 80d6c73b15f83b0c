import { readdirSync, readFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { targetConformance } from '../target.conformance.js';
import { TgtDriver } from './tgt-driver.js';
import type { TgtRecord } from './tgt-instance.js';
import { stopAllTgtd, type TgtConfig } from './tgt-pool.js';

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

targetConformance('tgt', (dir) => {
  const stateDir = join(dir, 'tgt');
  let config: TgtConfig | undefined;
  return {
    async open() {
      config ??= { stateDir, addresses: ['127.0.0.1'], portBase: await freePort() };
      return TgtDriver.open(config);
    },
    processOf(pool) {
      const names = readdirSync(stateDir).filter((name) => name.endsWith('.json'));
      const records = names.map((name) => JSON.parse(readFileSync(join(stateDir, name), 'utf8')) as TgtRecord);
      return records.find((record) => record.pool === pool)!.pid;
    },
    stop: () => stopAllTgtd(stateDir),
  };
});
