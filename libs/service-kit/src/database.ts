import { M2Error } from '@m2/contracts';
import { SpanKind } from '@opentelemetry/api';
import type { EventEmitter } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { DataSource, type MigrationInterface } from 'typeorm';
import type { PostgresDriver } from 'typeorm/driver/postgres/PostgresDriver.js';
import { Plumbing1795000000000 } from './migrations.js';
import { inSpan } from './telemetry.js';

/** One connection, or a transaction on it. Values travel as parameters, always. */
export interface Sql {
  query<Row extends object>(text: string, values?: unknown[]): Promise<Row[]>;
}

export type MigrationClass = new () => MigrationInterface;
export type EntityClass = new () => object;

interface PgClient extends EventEmitter {
  query(query: string | { name: string; text: string; values: unknown[] }): Promise<{ rows: object[] }>;
}

/** A statement with values is parsed and planned once for each connection, by its name; the texts are all in our code, so they are few. */
const statementNames = new Map<string, string>();

function prepared(text: string, values: unknown[]) {
  let name = statementNames.get(text);
  if (!name) statementNames.set(text, (name = `m2_${statementNames.size}`));
  return { name, text, values };
}

/** The database is not there, or went away under way: to whoever asks, the service is not there. */
class DatabaseUnavailable extends M2Error {
  constructor(cause: unknown) {
    super('service.unavailable', 'The database does not answer', undefined, { cause });
  }
}

const asUnavailable = (error: unknown): unknown => (isConnectionError(error) ? new DatabaseUnavailable(error) : error);

/** A connection that stays with its holder until `release`; for session locks. */
export interface Session extends Sql {
  transaction<T>(work: (sql: Sql) => Promise<T>): Promise<T>;
  /** `broken` closes the connection, and with it every lock that it holds. */
  release(broken?: boolean): void;
}

/**
 * A service's own schema. Entities (for lists and simple reads) go through TypeORM; the hot path is plain SQL on the same
 * pool, because locking and updating a row through the ORM costs more than ten times the statement.
 */
export class Database implements Sql {
  private constructor(readonly orm: DataSource) {}

  /** Connects, waiting up to a minute for a server that is not up yet, and brings the schema up to date. */
  static async open(options: {
    url: string;
    password?: string | undefined;
    poolSize: number;
    applicationName: string;
    migrations: MigrationClass[];
    entities: EntityClass[];
  }): Promise<Database> {
    const orm = new DataSource({
      type: 'postgres',
      url: withPassword(options.url, options.password),
      entities: options.entities,
      migrations: [Plumbing1795000000000, ...options.migrations],
      migrationsTableName: 'm2_migrations',
      poolSize: options.poolSize,
      applicationName: options.applicationName,
      extra: { idleTimeoutMillis: 60_000, connectionTimeoutMillis: 30_000 },
    });
    const until = Date.now() + 60_000;
    for (;;) {
      try {
        await orm.initialize();
        break;
      } catch (error) {
        // 28P01 and 3D000: a wrong password or a missing database does not mend itself.
        const { code } = error as { code?: string };
        if (Date.now() > until || code === '28P01' || code === '3D000') throw error;
        await pause(200);
      }
    }
    const database = new Database(orm);
    await database.migrate();
    return database;
  }

  async query<Row extends object>(text: string, values?: unknown[]): Promise<Row[]> {
    return this.withSession((session) => session.query<Row>(text, values));
  }

  transaction<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    return this.withSession((session) => session.transaction(work));
  }

  async session(): Promise<Session> {
    const driver = this.orm.driver as PostgresDriver;
    const [client, release] = (await driver.obtainMasterConnection().catch((error: unknown) => {
      throw asUnavailable(error);
    })) as [PgClient, (broken?: boolean) => void];
    // A connection that is lost between two queries says so in an event, which would end the process if nobody listened.
    client.on('error', ignore);
    return new PgSession(client, (broken) => {
      client.off('error', ignore);
      release(broken);
    });
  }

  close(): Promise<void> {
    return this.orm.destroy();
  }

  /** Replicas that start together wait for one another; the second finds nothing left to do. */
  private migrate(): Promise<void> {
    const lock = `hashtextextended('m2_migrations ' || current_schema(), 0)`;
    return this.withSession(async (session) => {
      await session.query(`SELECT pg_advisory_lock(${lock})`);
      try {
        await this.orm.runMigrations({ transaction: 'each' });
      } finally {
        await session.query(`SELECT pg_advisory_unlock(${lock})`);
      }
    });
  }

  private async withSession<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const session = await this.session();
    let broken = false;
    try {
      return await work(session);
    } catch (error) {
      broken = isConnectionError(error);
      throw error;
    } finally {
      session.release(broken);
    }
  }
}

const ignore = (): void => {};

/** TypeORM takes the password from the URL alone. It is there in memory only: no environment or process list shows it. */
function withPassword(url: string, password: string | undefined): string {
  if (!password) return url;
  const full = new URL(url);
  full.password = password;
  return full.href;
}

class PgSession implements Session {
  constructor(
    private readonly client: PgClient,
    readonly release: (broken?: boolean) => void,
  ) {}

  async query<Row extends object>(text: string, values?: unknown[]): Promise<Row[]> {
    try {
      const { rows } = await this.client.query(values ? prepared(text, values) : text);
      return rows as Row[];
    } catch (error) {
      throw asUnavailable(error);
    }
  }

  transaction<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    return inSpan('postgresql transaction', SpanKind.CLIENT, async () => {
      await this.query('BEGIN');
      try {
        const result = await work(this);
        await this.query('COMMIT');
        return result;
      } catch (error) {
        // A connection that is gone cannot roll back, and has: the server undoes what was not committed.
        await this.client.query('ROLLBACK').catch(() => {});
        throw error;
      }
    });
  }
}

/** Class 08 and 57P: the connection or the server went away (PostgreSQL manual, appendix A). */
export function isConnectionError(error: unknown): boolean {
  const { code, message } = error as { code?: string; message?: string };
  return (
    error instanceof DatabaseUnavailable ||
    /^(08|57P)/.test(code ?? '') ||
    ['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ENOENT'].includes(code ?? '') ||
    /Connection terminated|not queryable|timeout exceeded when trying to connect/.test(message ?? '')
  );
}

/** 23505: a unique index said no; `constraint` tells which. */
export const violatesUnique = (error: unknown, constraint: string): boolean =>
  (error as { code?: string }).code === '23505' && (error as { constraint?: string }).constraint === constraint;
