import {
  type ErrorValue,
  M2Error,
  type Operation,
  type OperationEnd,
  operationEnded,
  type OperationKind,
  operationNeedsAttention,
  operationResumed,
  operationStarted,
  type OperationState,
  type OperationStep,
  shown,
} from '@m2/contracts';
import {
  currentTraceparent,
  type Database,
  type Emit,
  type Kit,
  newestFirst,
  type Sql,
  violatesUnique,
} from '@m2/service-kit';
import { channel } from 'node:diagnostics_channel';
import { leaseSeconds } from './claims.js';
import type { Commission } from './commission.js';
import { LostOperation } from './journal.js';
import { sagaKey, type SagaRegistry } from './registry.js';
import { type DbOperation, newStep, type OperationRow, stepsJson, toOperation, toRow } from './rows.js';
import { type Saga, stepsOf } from './saga.js';

export interface NewOperation {
  id: string;
  project: string;
  kind: OperationKind;
  input: object;
  about: Record<string, string>;
  actor: Commission['actor'];
  /** A moment of the database's clock before which nobody begins it. */
  notBefore?: Date | undefined;
}

/** How an operation ends; with `attention` it has not, and waits for a person. */
export type Ending = { error: ErrorValue | null } & (
  { state: OperationEnd; attention: null } | { state: 'needs_attention'; attention: string }
);

/**
 * `{ kind, operation, phase }`: `accepted`, `turned-back` or `ended` is on record, and nothing else was done since. Synchronous, as
 * `m2:operation:step` is.
 */
const operationChannel = channel('m2:operation');

/** The operations' tables. Every change of an operation's state goes with its events in one transaction. */
export class OperationStore {
  private readonly database: Database;

  /** `projects` is the table that has a row for each project: one in which an operation is begun cannot be deleted meanwhile. */
  constructor(
    private readonly kit: Pick<Kit, 'database' | 'transact'>,
    private readonly sagas: SagaRegistry,
    private readonly projects: string,
  ) {
    this.database = kit.database;
  }

  /**
   * Accepts an operation: with its steps, what `also` writes, and its event, or not at all. It belongs to `runner` from the
   * first moment, when there is one, so that nobody has to claim it first.
   * One of this identifier that is there already is returned as it is: the request was repeated.
   */
  async create(
    saga: Saga<never>,
    operation: NewOperation,
    runner: string | null,
    also?: (sql: Sql) => Promise<void>,
  ): Promise<{ operation: Operation; row: OperationRow | null }> {
    const steps = stepsOf(saga, operation.input as never).map(newStep);
    try {
      const result = await this.kit.transact(async (sql, emit) => {
        const [row] = await sql.query<DbOperation>(
          `WITH o AS (
             INSERT INTO operations (id, project, kind, version, state, input, about, created_by, token, traceparent,
               not_before, fence, runner, lease_until, started_at)
             SELECT $1, id, $3, $12, 'running', $4, $5, $6, $7, $8, $13, CASE WHEN $9::text IS NULL THEN 0 ELSE 1 END, $9,
               CASE WHEN $9::text IS NOT NULL THEN now() + $10 * interval '1 second' END,
               CASE WHEN $9::text IS NOT NULL THEN now() END
             -- the lock keeps the project from being deleted meanwhile
             FROM ${this.projects} WHERE id = $2 FOR SHARE
             RETURNING *
           ), s AS (
             INSERT INTO operation_steps (operation, position, name, after)
             SELECT o.id, t.position, t.name, t.after
             FROM o, jsonb_to_recordset($11::jsonb) AS t(position int, name text, after text[])
           )
           SELECT * FROM o`,
          [
            operation.id,
            operation.project,
            operation.kind,
            JSON.stringify(operation.input),
            JSON.stringify(operation.about),
            operation.actor.name,
            operation.actor.token,
            currentTraceparent() ?? null,
            runner,
            leaseSeconds,
            JSON.stringify(steps.map(({ name, after }, at) => ({ position: at + 1, name, after }))),
            saga.version,
            operation.notBefore ?? null,
          ],
        );
        if (!row) throw new M2Error('project.not_found', `There is no project ${operation.project}`);
        await also?.(sql);
        emit(
          operationStarted,
          { id: operation.id, project: operation.project, kind: operation.kind, by: operation.actor.name },
          { entity: operation.id, project: operation.project },
        );
        return row;
      });
      operationChannel.publish({ kind: operation.kind, operation: operation.id, phase: 'accepted' });
      const shownSteps = steps.map(({ reply: _, after: __, skip, ...step }) => ({
        ...step,
        progress: null,
        skipped: skip,
      }));
      return { operation: this.toOperation({ ...result, steps: shownSteps }), row: runner ? toRow(result) : null };
    } catch (error) {
      if (!violatesUnique(error, 'operations_pkey')) throw error;
    }
    return { operation: await this.show(operation.id), row: null };
  }

  /** Throws M2Error `operation.not_found`. */
  async show(id: string): Promise<Operation> {
    const operation = await this.find(id);
    if (!operation) throw new M2Error('operation.not_found', `There is no operation ${id}`);
    return operation;
  }

  async find(id: string): Promise<Operation | undefined> {
    return (await this.findAll([id]))[0];
  }

  /** Those of them that there are, in no order. */
  async findAll(ids: string[]): Promise<Operation[]> {
    const rows = await this.database.query<DbOperation>(
      `SELECT o.*, ${stepsJson} FROM operations o WHERE id = ANY($1::uuid[])`,
      [ids],
    );
    return rows.map((row) => this.toOperation(row));
  }

  async list(filter: {
    projects: string[] | 'all';
    kind?: string | undefined;
    state?: string | undefined;
    cursor?: string | undefined;
    limit: number;
  }): Promise<{ items: Operation[]; next?: string }> {
    const { projects, kind, state, cursor, limit } = filter;
    // Only conditions that there are: PostgreSQL finds no index for "no project, or this one". Nor does it go by one through a set of
    // projects in order; a token reaches one, or all.
    const conditions = new Map<string, unknown>();
    if (projects !== 'all') conditions.set('project = ', projects[0] ?? null);
    if (kind !== undefined) conditions.set('kind = ', kind);
    if (state !== undefined) conditions.set('state = ', state);
    if (cursor !== undefined) conditions.set('id < ', newestFirst.read(cursor));
    const where = ['true', ...[...conditions.keys()].map((condition, at) => `${condition}$${at + 2}`)].join(' AND ');
    const rows = await this.database.search<DbOperation>(
      `SELECT o.*, ${stepsJson} FROM operations o WHERE ${where} ORDER BY id DESC LIMIT $1`,
      [limit + 1, ...conditions.values()],
    );
    const operations = rows.map((row) => this.toOperation(row));
    return newestFirst.page(operations, limit);
  }

  private toOperation(row: DbOperation): Operation {
    return toOperation(row, this.sagas.cancellable.includes(sagaKey(row.kind, row.version)));
  }

  /**
   * From here on the operation is undone, for `error`, or for `ifCancelled` where a person asked for it meanwhile. Returns its new fence, and
   * which it was. Throws LostOperation.
   */
  async turnBack(
    operation: OperationRow,
    error: ErrorValue,
    ifCancelled: ErrorValue,
  ): Promise<{ fence: number; error: ErrorValue }> {
    const [row] = await this.database.query<{ fence: string; error: ErrorValue }>(
      `UPDATE operations SET state = 'undoing', undoing = true, fence = fence + 1,
         error = CASE WHEN cancel_requested THEN $4::jsonb ELSE $3::jsonb END
       WHERE id = $1 AND fence = $2 RETURNING fence, error`,
      [operation.id, operation.fence, JSON.stringify(error), JSON.stringify(ifCancelled)],
    );
    if (!row) throw new LostOperation(`Another runner has operation ${operation.id}`);
    operationChannel.publish({ kind: operation.kind, operation: operation.id, phase: 'turned-back' });
    return { fence: Number(row.fence), error: row.error };
  }

  /** `settle` runs in the same transaction. Throws LostOperation. */
  async end(operation: OperationRow, ending: Ending, settle?: (sql: Sql) => Promise<void>): Promise<void> {
    const { state, error, attention } = ending;
    await this.kit.transact(async (sql, emit) => {
      const [row] = await sql.query<{ id: string }>(
        `UPDATE operations SET state = $3, error = $4, attention = $5, ended_at = CASE WHEN $5::text IS NULL THEN now() END,
             runner = NULL, lease_until = NULL
           WHERE id = $1 AND fence = $2 RETURNING id`,
        [operation.id, operation.fence, state, error && JSON.stringify(error), attention],
      );
      if (!row) throw new LostOperation(`Another runner has operation ${operation.id}`);
      await settle?.(sql);
      const { id, project, kind, createdBy: by } = operation;
      const about = { id, project, kind, by, error: error && shown(error) };
      const meta = { entity: id, project };
      if (ending.state === 'needs_attention')
        emit(operationNeedsAttention, { ...about, attention: ending.attention }, meta);
      else emit(operationEnded, { ...about, state: ending.state }, meta);
    });
    operationChannel.publish({ kind: operation.kind, operation: operation.id, phase: 'ended' });
  }

  private readonly progressSaved = new Map<string, number>();

  /** Keeps how far a step is, at most once a second. Returns whether it was written. */
  async saveProgress(operation: OperationRow, step: string, progress: OperationStep['progress']): Promise<boolean> {
    const key = `${operation.id}/${step}`;
    const savedAt = this.progressSaved.get(key);
    if (savedAt !== undefined && performance.now() - savedAt < 1_000) return false;
    this.progressSaved.set(key, performance.now());
    try {
      const changed = await this.database.query<{ name: string }>(
        `UPDATE operation_steps SET progress = $3 WHERE operation = $1 AND name = $2 AND state = 'running'
           AND progress IS DISTINCT FROM $3::jsonb RETURNING name`,
        [operation.id, step, progress && JSON.stringify(progress)],
      );
      return changed.length > 0;
    } catch {
      return false; // the next look brings it
    } finally {
      if (this.progressSaved.size > 10_000) this.progressSaved.clear();
    }
  }

  /** Keeps that a step waits because the service that it needs is not there, in words; null: it is there. Returns whether it was written. */
  async saveAbsence({ id, fence }: OperationRow, step: string, absent: string | null): Promise<boolean> {
    try {
      const changed = await this.database.query<{ name: string }>(
        `UPDATE operation_steps s SET absent = $4 FROM operations o
         WHERE o.id = $1 AND o.fence = $3 AND s.operation = o.id AND s.name = $2 RETURNING s.name`,
        [id, step, fence, absent],
      );
      return changed.length > 0;
    } catch {
      return false; // the next attempt brings it
    }
  }

  /**
   * What a person decides of an operation. `work` is done once for each `decision`, however often that comes, and as a whole or not at all.
   * Returns whether it was done now. Throws M2Error `operation.not_found`, and what `work` throws.
   */
  decide(
    id: string,
    decision: string,
    work: (sql: Sql, emit: Emit, operation: DbOperation) => Promise<void>,
  ): Promise<boolean> {
    return this.kit.transact(async (sql, emit) => {
      // Locked, so that two who decide at once do not both.
      const [row] = await sql.query<DbOperation & { known: boolean }>(
        'SELECT *, $2::uuid = ANY(decisions) AS known FROM operations WHERE id = $1 FOR UPDATE',
        [id, decision],
      );
      if (!row) throw new M2Error('operation.not_found', `There is no operation ${id}`);
      if (row.known) return false;
      await work(sql, emit, row);
      await sql.query('UPDATE operations SET decisions = decisions || $2::uuid WHERE id = $1', [id, decision]);
      return true;
    });
  }

  /**
   * Asks for the end of an operation that runs, or that is stuck on its way on. Throws M2Error `operation.not_found`,
   * `operation.not_cancellable`.
   */
  requestCancel(id: string, decision: string): Promise<boolean> {
    return this.decide(id, decision, async (sql, emit, before) => {
      const rows = await sql.query<{ id: string }>(
        `UPDATE operations SET cancel_requested = true, state = 'running', attention = NULL, takeovers = 0
         WHERE id = $1 AND (state = 'running' OR state = 'needs_attention' AND NOT undoing) AND kind || '@' || version = ANY($2)
         RETURNING id`,
        [id, this.sagas.cancellable],
      );
      const { kind, state } = before;
      if (rows.length === 0) throw new M2Error('operation.not_cancellable', `Operation ${id} (${kind}) is ${state}`);
      tellResumed(emit, before);
    });
  }

  /** Throws M2Error `operation.not_found`, `operation.not_resumable`. */
  resume(id: string, decision: string): Promise<boolean> {
    return this.decide(id, decision, async (sql, emit, before) => {
      if (!(await resumeIn(sql, emit, before, ['needs_attention'])))
        throw new M2Error('operation.not_resumable', `Operation ${id} is ${before.state}`);
    });
  }
}

/** Lets an operation go on where it was, under another fence: a runner that has it loses it. `from`: the states from which. Returns whether it does. */
export async function resumeIn(sql: Sql, emit: Emit, before: DbOperation, from: OperationState[]): Promise<boolean> {
  const rows = await sql.query<{ id: string }>(
    `UPDATE operations SET state = CASE WHEN undoing THEN 'undoing' ELSE 'running' END, attention = NULL, takeovers = 0,
       fence = fence + 1, runner = NULL, lease_until = NULL, error = CASE WHEN undoing THEN error END
     WHERE id = $1 AND state = ANY($2) RETURNING id`,
    [before.id, from],
  );
  if (rows.length > 0) tellResumed(emit, before);
  return rows.length > 0;
}

/** One that needed no attention just goes on. */
function tellResumed(emit: Emit, { id, project, kind, state, created_by: by }: DbOperation): void {
  if (state === 'needs_attention') emit(operationResumed, { id, project, kind, by }, { entity: id, project });
}
