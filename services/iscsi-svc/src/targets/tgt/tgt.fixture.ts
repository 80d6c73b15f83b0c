import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TargetHarness } from '../conformance/fixture.js';
import { freePorts } from '../conformance/free-ports.js';
import { TgtDriver } from './tgt-driver.js';
import type { TgtRecord } from './tgt-instance.js';
import { stopAllTgtd, type TgtConfig } from './tgt-pool.js';

/** tgt for the conformance suite, with its state below `dir`. */
export function tgtHarness(dir: string): TargetHarness {
  const stateDir = join(dir, 'tgt');
  let config: TgtConfig | undefined;
  return {
    async open(isWanted) {
      config ??= { stateDir, addresses: ['127.0.0.1'], portBase: await freePorts(50) };
      return TgtDriver.open(config, isWanted);
    },
    processOf: (pool) => recordOf(stateDir, pool).pid,
    stop: () => stopAllTgtd(stateDir),
  };
}

/** What is recorded of the tgtd of a pool. */
export function recordOf(stateDir: string, pool: string): TgtRecord {
  const names = readdirSync(stateDir).filter((name) => name.endsWith('.json'));
  const records = names.map((name) => JSON.parse(readFileSync(join(stateDir, name), 'utf8')) as TgtRecord);
  return records.find((record) => record.pool === pool)!;
}
