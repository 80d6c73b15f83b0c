import type { Stage } from '@m2/cli';
import { findState, status } from '@m2/supervisor';
import { execFile } from 'node:child_process';
import { appendFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { round } from './numbers.js';

const run = promisify(execFile);

/** What the plumbing of the whole installation does for one provision. */
export interface Costs {
  /** Statements that PostgreSQL was sent. */
  statements: number;
  /** Transactions that wrote something. */
  commits: number;
  /** Messages that NATS was sent by the services, and that it delivered to them: requests, answers, events and their acknowledgements. */
  messagesSent: number;
  messagesDelivered: number;
}

const idleMs = 10_000;
const settleMs = 1_000;

/**
 * Counts, in the logs of PostgreSQL and NATS, what the installation does. From `open` on it writes down every statement and message, which takes time:
 * nothing else is to be measured after that.
 */
export class CostCounter {
  private idlePerMs: Costs = { statements: 0, commits: 0, messagesSent: 0, messagesDelivered: 0 };

  private constructor(private readonly state: string) {}

  static async open({ state }: Stage): Promise<CostCounter> {
    const counter = new CostCounter(state);
    await counter.sql('CREATE EXTENSION IF NOT EXISTS pg_walinspect');
    await counter.sql(`ALTER SYSTEM SET log_statement = 'all'`);
    await counter.sql('SELECT pg_reload_conf()');
    await appendFile(join(findState(state)!.nats, 'nats.conf'), '\ntrace: true\n');
    const nats = (await status({ state }))!.children.find(({ name }) => name === 'nats')!;
    process.kill(nats.pid!, 'SIGHUP');
    await pause(settleMs);
    counter.idlePerMs = await counter.during(idleMs, () => pause(idleMs));
    return counter;
  }

  /** Per piece of the work that makes `count` of them; without what is done all the time. */
  async of(count: number, work: () => Promise<unknown>): Promise<Costs> {
    const started = performance.now();
    const total = await this.during(1, async () => {
      await work();
      // Events are on their way yet.
      await pause(settleMs);
    });
    const ms = performance.now() - started;
    const each = (key: keyof Costs) => round((total[key] - this.idlePerMs[key] * ms) / count);
    return {
      statements: each('statements'),
      commits: each('commits'),
      messagesSent: each('messagesSent'),
      messagesDelivered: each('messagesDelivered'),
    };
  }

  private async during(divisor: number, work: () => Promise<unknown>): Promise<Costs> {
    const from = await this.sql('SELECT pg_current_wal_insert_lsn()');
    const before = await this.logged();
    await work();
    const after = await this.logged();
    await this.sql('CHECKPOINT');
    const commits = await this.sql(
      `SELECT count(*) FROM pg_get_wal_records_info_till_end_of_wal('${from}') WHERE resource_manager = 'Transaction' AND record_type LIKE 'COMMIT%'`,
    );
    return {
      statements: (after.statements - before.statements) / divisor,
      commits: Number(commits) / divisor,
      messagesSent: (after.messagesSent - before.messagesSent) / divisor,
      messagesDelivered: (after.messagesDelivered - before.messagesDelivered) / divisor,
    };
  }

  private async logged(): Promise<Omit<Costs, 'commits'>> {
    const count = async (part: string, pattern: RegExp) =>
      (await readFile(join(findState(this.state)!.logs, `${part}.log`), 'utf8')).match(pattern)?.length ?? 0;
    return {
      statements: await count('postgres', /LOG: {2}(statement|execute [^:]*):/g),
      messagesSent: await count('nats', /<<- \[H?PUB /g),
      messagesDelivered: await count('nats', /->> \[H?MSG /g),
    };
  }

  private async sql(text: string): Promise<string> {
    const password = await readFile(join(findState(this.state)!.secrets, 'database-m2_admin'), 'utf8');
    const where = ['-h', join(this.state, 'postgres'), '-U', 'm2_admin', 'postgres'];
    const { stdout } = await run('psql', ['-XAtqc', text, ...where], {
      env: { ...process.env, PGPASSWORD: password.trim() },
    });
    return stdout.trim();
  }
}
