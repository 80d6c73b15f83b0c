import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type ServiceName, serviceNames } from '@m2/contracts';
import { down } from '../down.js';
import { findFreeBasePort } from '../ports.js';
import { processesOf } from '../processes.js';
import { up, type UpOptions } from '../up.js';

const standIn = fileURLToPath(new URL('./stand-in.mjs', import.meta.url));
const standIns = Object.fromEntries(serviceNames.map((name) => [name, standIn])) as Record<ServiceName, string>;

/** The detached supervisor runs what was built; so that it is what is tested, build it. */
export const build = (): void => {
  const root = fileURLToPath(new URL('../../../../', import.meta.url));
  execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-b', 'apps/supervisor'], {
    cwd: root,
  });
};

/** A state directory of its own, with stand-ins for the services, and nothing left of it afterwards. */
export class Installation {
  readonly state = mkdtempSync(join(tmpdir(), 'm2s-'));
  private readonly journalDir = mkdtempSync(join(tmpdir(), 'm2j-'));
  private readonly journalFile = join(this.journalDir, 'journal');

  static async make(): Promise<Installation> {
    return new Installation(await findFreeBasePort());
  }

  private constructor(readonly port: number) {}

  /** `up` with stand-ins; `modes` says which of them misbehave. */
  up(options: UpOptions = {}, modes: Partial<Record<ServiceName, string>> = {}, report?: (line: string) => void) {
    const env = Object.fromEntries(
      serviceNames.map((name) => [name, { STAND_IN_JOURNAL: this.journalFile, STAND_IN: modes[name] ?? '' }]),
    );
    return up({ state: this.state, port: this.port, detach: true, mains: standIns, env, ...options }, report);
  }

  /** What the stand-ins wrote down, in order: `gateway start`, `gateway stop` … */
  journal(): string[] {
    return readFileSync(this.journalFile, 'utf8').trim().split('\n');
  }

  programs(): string[] {
    return processesOf(this.state).map(({ program }) => program);
  }

  async remove(): Promise<void> {
    await down({ state: this.state });
    for (const path of [this.state, this.journalDir]) rmSync(path, { recursive: true, force: true });
  }
}

/** Waits until a condition holds; throws after a minute. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = performance.now() + 60_000; !(await condition()); await pause(20))
    if (performance.now() > deadline) throw new Error(`waited a minute until ${what}`);
}
