import { M2Error } from '@m2/contracts';
import { SpanKind } from '@opentelemetry/api';
import type { EventEmitter } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { DataSource, type MigrationInterface } from 'typeorm';
import type { PostgresDriver } from 'typeorm/driver/postgres/PostgresDriver.js';
import { LeaseLost, leaseLostState, leaseSeconds } from './lease-lost.js';
import {
  EffectsAsRows1796000000010,
  FenceOfTheHolder1799500000000,
  PlannedOnce1799000000000,
  Plumbing1795000000000,
  Retention1798000000000,
  TurnsAndParkedEvents1797000000020,
} from './migrations.js';
import { inSpan } from './telemetry.js';

/** One connection, or a transaction on it. Values travel as parameters, always. */
export interface Sql {
  query<Row extends object>(text: string, values?: unknown[]): Promise<Row[]>;
}

export interface Statement {
  text: string;
  values: unknown[];
}

/** What is said at both ends of a transaction, without a round trip of its own. */
export interface TransactionEnds<T> {
  /** Goes with BEGIN. When it throws, nothing of the transaction happens. */
  opening?: Statement;
  /** Made from what the work returned; goes with COMMIT. */
  closing?: (result: T) => Statement | undefined;
}

export type MigrationClass = new () => MigrationInterface;
export type EntityClass = new () => object;

interface PgClient extends EventEmitter {
  connection: { stream: { cork(): void; uncork(): void } };
  query(
    query: string | { name?: string; text: string; values: unknown[] },
  ): Promise<{ rows: object[]; command: string }>;
}

/** PostgreSQL parses and plans a named statement once per connection. All texts are in our code, so there are few names. */
const statementNames = new Map<string, string>();

function prepared(text: string, values: unknown[]) {
  let name = statementNames.get(text);
  if (!name) statementNames.set(text, (name = `m2_${statementNames.size}`));
  return { name, text, values };
}

/** The database cannot be reached, or the connection was lost. The caller sees the service as unavailable. */
class DatabaseUnavailable extends M2Error {
  constructor(cause: unknown) {
    super('service.unavailable', 'The database does not answer', undefined, { cause });
  }
}

/**
 * Class 53, 58030 and 25006: the server has no room, cannot write, or may not. Nothing is wrong with what was asked, and it works again when
 * somebody has made room.
 */
const withoutMeans: Record<string, string> = {
  '53100': 'The disk under the database is full: make room on it',
  '53200': 'The database has no memory left',
  '53300': 'The database has no connection left',
  '53400': 'The database has reached a limit of its configuration',
  '58030': 'The database cannot read or write its files',
  '25006': 'The database takes no writes now',
};

/** What the database could not do, in words of the catalogue; all else as it is. */
export function translated(error: unknown): unknown {
  if (isConnectionError(error)) return new DatabaseUnavailable(error);
  const { code, message } = (error ?? {}) as { code?: unknown; message?: string };
  if (code === leaseLostState) return new LeaseLost(message ?? 'The lease is lost');
  const sentence = withoutMeans[String(code)];
  return sentence ? new M2Error('service.unavailable', sentence, undefined, { cause: error }) : error;
}

/** A connection that stays with its holder until `release`. */
export interface Session extends Sql {
  /** See `Database.search`. */
  search<Row extends object>(text: string, values: unknown[]): Promise<Row[]>;
  /** Throws when the server rolled back instead, because a statement had failed before. */
  commit(): Promise<void>;
  /** `broken` closes the connection, and with it every lock that it holds. */
  release(broken?: boolean): void;
}

/**
 * A service's own schema. Lists go through repositories of TypeORM; the hot path is plain SQL on the same pool, because reading or
 * locking a row through the ORM costs four to ten times the statement. Both read the same entities.
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
      migrations: [
        Plumbing1795000000000,
        EffectsAsRows1796000000010,
        TurnsAndParkedEvents1797000000020,
        Retention1798000000000,
        PlannedOnce1799000000000,
        FenceOfTheHolder1799500000000,
        ...options.migrations,
      ],
      migrationsTableName: 'm2_migrations',
      poolSize: options.poolSize,
      applicationName: options.applicationName,
      extra: {
        idleTimeoutMillis: 60_000,
        connectionTimeoutMillis: 30_000,
        // Statements that do not wait for each other travel together.
        pipeline: true,
        // A process that stands still must not hold rows for longer than its lease.
        idle_in_transaction_session_timeout: leaseSeconds * 1_000,
      },
    });
    const until = performance.now() + 60_000;
    for (;;) {
      try {
        await orm.initialize();
        break;
      } catch (error) {
        // 28P01 and 3D000: a wrong password and a missing database need a person.
        const { code } = error as { code?: string };
        if (performance.now() > until || code === '28P01' || code === '3D000') throw error;
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

  /**
   * A statement that is planned for its values, each time: a list with filters. What `query` sends is planned for all values after a few times, and
   * then PostgreSQL finds no index for "no name, or this one", nor for a value that is rare.
   */
  async search<Row extends object>(text: string, values: unknown[]): Promise<Row[]> {
    return this.withSession((session) => session.search<Row>(text, values));
  }

  /**
   * BEGIN is sent with the first statement of `work`, COMMIT with the closing one. Work without a statement of its own costs one round trip: the
   * closing statement is sent alone; without that, none.
   */
  transaction<T>(work: (sql: Sql) => Promise<T>, { opening, closing }: TransactionEnds<T> = {}): Promise<T> {
    return inSpan('postgresql transaction', SpanKind.CLIENT, async () => {
      const transaction = new Transaction(() => this.session(), opening);
      try {
        const result = await work(transaction);
        const last = closing?.(result);
        if (transaction.isBegun) await transaction.commit(last);
        else if (last) await this.query(last.text, last.values);
        return result;
      } catch (error) {
        await transaction.rollback(isConnectionError(error));
        throw error;
      }
    });
  }

  async session(): Promise<Session> {
    const driver = this.orm.driver as PostgresDriver;
    const [client, release] = (await driver.obtainMasterConnection().catch((error: unknown) => {
      throw translated(error);
    })) as [PgClient, (broken?: boolean) => void];
    // A connection that is lost between two queries emits `error`, which would end the process without a listener.
    client.on('error', ignore);
    return new PgSession(client, (broken) => {
      client.off('error', ignore);
      release(broken);
    });
  }

  /**
   * The columns of an entity's table, under the names of its properties, for plain SQL whose rows are that entity: so a table is mapped
   * once. `table` is the name or alias in the statement. Columns that are not selected by default are left out, unless `all`.
   */
  columns(entity: EntityClass, table: string, all = false): string {
    return this.orm
      .getMetadata(entity)
      .columns.filter((column) => all || column.isSelect)
      .map((column) => `${table}."${column.databaseName}" AS "${column.propertyName}"`)
      .join(', ');
  }

  close(): Promise<void> {
    return this.orm.destroy();
  }

  /** Replicas that start together take turns; the second one finds nothing left to do. */
  private async migrate(): Promise<void> {
    await this.ensureTurns();
    await this.transaction(async (sql) => {
      // It waits while others work, for as long as that takes.
      await sql.query('SET LOCAL idle_in_transaction_session_timeout = 0');
      await sql.query(`SELECT FROM m2_turns WHERE name = 'migrations' FOR UPDATE`);
      await this.orm.runMigrations({ transaction: 'each' });
    });
  }

  /** Two that make a table at the same time may both find that it is not there: then one of them fails, and finds it. */
  private async ensureTurns(): Promise<void> {
    const make = () => this.query('CREATE TABLE IF NOT EXISTS m2_turns (name text PRIMARY KEY)');
    await make().catch(make);
    await this.query(`INSERT INTO m2_turns (name) VALUES ('migrations') ON CONFLICT DO NOTHING`);
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

/** TypeORM takes the password from the URL only. This URL stays in memory: no environment or process list shows it. */
function withPassword(url: string, password: string | undefined): string {
  if (!password) return url;
  const full = new URL(url);
  full.password = password;
  return full.href;
}

class PgSession implements Session {
  private isHeldBack = false;

  constructor(
    private readonly client: PgClient,
    readonly release: (broken?: boolean) => void,
  ) {}

  query<Row extends object>(text: string, values?: unknown[]): Promise<Row[]> {
    return this.send(values ? prepared(text, values) : text);
  }

  search<Row extends object>(text: string, values: unknown[]): Promise<Row[]> {
    return this.send({ text, values });
  }

  private async send<Row extends object>(query: Parameters<PgClient['query']>[0]): Promise<Row[]> {
    this.holdBack();
    try {
      const { rows } = await this.client.query(query);
      return rows as Row[];
    } catch (error) {
      throw translated(error);
    }
  }

  async commit(): Promise<void> {
    this.holdBack();
    const { command } = await this.client.query('COMMIT').catch((error: unknown) => {
      throw translated(error);
    });
    if (command !== 'COMMIT')
      throw new Error('A statement of the transaction had failed, and nothing of it was committed');
  }

  /** What is said before this process waits for something travels in one piece: each piece wakes the server once. */
  private holdBack(): void {
    if (this.isHeldBack) return;
    const { stream } = this.client.connection;
    this.isHeldBack = true;
    stream.cork();
    process.nextTick(() => {
      this.isHeldBack = false;
      stream.uncork();
    });
  }
}

/** Takes its connection when the first statement comes. */
class Transaction implements Sql {
  private session: Promise<Session> | undefined;
  private begun: Promise<unknown> | undefined;
  private isOver = false;

  constructor(
    private readonly connect: () => Promise<Session>,
    private readonly opening: Statement | undefined,
  ) {}

  get isBegun(): boolean {
    return this.session !== undefined;
  }

  async query<Row extends object>(text: string, values?: unknown[]): Promise<Row[]> {
    this.assertOpen();
    const session = await (this.session ??= this.begin());
    this.assertOpen();
    try {
      return await session.query<Row>(text, values);
    } catch (error) {
      // What failed first is why: everything after it is only told that the transaction has failed.
      await this.begun;
      throw error;
    }
  }

  async commit(closing: Statement | undefined): Promise<void> {
    const session = (await this.session)!;
    this.isOver = true;
    const outcomes = await Promise.allSettled([
      this.begun,
      closing && session.query(closing.text, closing.values),
      session.commit(),
    ]);
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed) throw failed.reason;
    session.release();
  }

  async rollback(broken: boolean): Promise<void> {
    this.isOver = true;
    const session = await this.session?.catch(() => undefined);
    if (!session) return;
    // On a lost connection this fails, and the server has rolled back by itself.
    if (!broken)
      broken = await session.query('ROLLBACK').then(
        () => false,
        () => true,
      );
    session.release(broken);
  }

  /** What is said later would be done on its own, or in the transaction of whoever has the connection next. */
  private assertOpen(): void {
    if (this.isOver) throw new Error('The transaction has ended');
  }

  private async begin(): Promise<Session> {
    const session = await this.connect();
    this.begun = Promise.all([
      session.query('BEGIN'),
      this.opening && session.query(this.opening.text, this.opening.values),
    ]);
    // It is awaited where a statement has failed, and at the end.
    this.begun.catch(() => {});
    return session;
  }
}

/** Class 08 and 57P, and 25P03, a standstill within a transaction: the connection or the server went away (PostgreSQL manual, appendix A). */
export function isConnectionError(error: unknown): boolean {
  const { code, message } = error as { code?: string; message?: string };
  return (
    error instanceof DatabaseUnavailable ||
    /^(08|57P|25P03)/.test(code ?? '') ||
    ['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ENOENT'].includes(code ?? '') ||
    /Connection terminated|not queryable|timeout exceeded when trying to connect/.test(message ?? '')
  );
}

/** 23505: a unique index said no; `constraint` tells which. */
export const violatesUnique = (error: unknown, constraint: string): boolean =>
  (error as { code?: string }).code === '23505' && (error as { constraint?: string }).constraint === constraint;

/** 23503: what the row refers to is not there, or not any more. */
export const violatesReference = (error: unknown, constraint: string): boolean =>
  (error as { code?: string }).code === '23503' && (error as { constraint?: string }).constraint === constraint;
