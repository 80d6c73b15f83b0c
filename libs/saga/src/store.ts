import {
  type ErrorValue,
  M2Error,
  type Operation,
  operationEnded,
  type OperationKind,
  operationKinds,
  operationStarted,
  shown,
  type OperationState,
  type OperationStep,
} from '@m2/contracts';
import { currentTraceparent, type Database, type Kit, newestFirst, type Sql, violatesUnique } from '@m2/service-kit';
import type { Commission } from './commission.js';
import { LostOperation, type StepRow } from './journal.js';
import type { SagaRegistry } from './registry.js';
import type { Saga, SagaState } from './saga.js';

export const leaseSeconds = 15;

export interface OperationRow {
  id: string;
  project: string;
  kind: OperationKind;
  input: unknown;
  about: Record<string, string>;
  fence: number;
  undoing: boolean;
  cancelRequested: boolean;
  error: ErrorValue | null;
  traceparent: string | null;
  createdBy: string;
}

export interface NewOperation {
  id: string;
  project: string;
  kind: OperationKind;
  input: object;
  about: Record<string, string>;
  actor: Commission['actor'];
  idempotency: Commission['idempotency'];
}

interface DbOperation {
  id: string;
  project: string;
  kind: OperationKind;
  state: OperationState;
  input: unknown;
  about: Record<string, string>;
  fence: string;
  undoing: boolean;
  cancel_requested: boolean;
  error: ErrorValue | null;
  attention: string | null;
  traceparent: string | null;
  created_by: string;
  created_at: Date;
  started_at: Date | null;
  ended_at: Date | null;
  request_hash: Buffer | null;
  steps?: OperationStep[];
}

const stepsJson = `
  (SELECT coalesce(jsonb_agg(jsonb_build_object('name', s.name, 'state', s.state, 'attempts', s.attempts, 'startedAt', s.started_at,
     'endedAt', s.ended_at, 'progress', s.progress, 'error', s.error) ORDER BY s.position), '[]')
   FROM operation_steps s WHERE s.operation = o.id) AS steps`;

/** The operations' tables. Every change of an operation's state goes with its events in one transaction. */
export class OperationStore {
  private readonly database: Database;
  /** What has no way back is not stopped halfway: there would be no state to go back to. */
  private readonly notCancellable: OperationKind[];

  constructor(
    private readonly kit: Kit,
    sagas: SagaRegistry,
  ) {
    this.database = kit.database;
    this.notCancellable = operationKinds.filter(
      (kind) => sagas[kind].forwardOnly || !sagas[kind].steps.some(({ undo }) => undo),
    );
  }

  /**
   * Accepts an operation: with its steps, what `also` writes, and its event, or not at all. It belongs to `runner` from the
   * first moment, when there is one, so that nobody has to claim it first.
   * The same idempotency key and request return the operation that is there already. Throws M2Error `idempotency.conflict`.
   */
  async create(
    saga: Saga<never>,
    operation: NewOperation,
    runner: string | null,
    also?: (sql: Sql) => Promise<void>,
  ): Promise<{ operation: Operation; row: OperationRow | null }> {
    try {
      const result = await this.kit.transact(async (sql, emit) => {
        const [row] = await sql.query<DbOperation>(
          `WITH o AS (
             INSERT INTO operations (id, project, kind, state, input, about, created_by, token, traceparent, idempotency_key,
               request_hash, fence, runner, lease_until, started_at)
             SELECT $1, id, $3, 'running', $4, $5, $6, $7, $8, $9, $10, CASE WHEN $11::text IS NULL THEN 0 ELSE 1 END, $11,
               CASE WHEN $11::text IS NOT NULL THEN now() + $12 * interval '1 second' END,
               CASE WHEN $11::text IS NOT NULL THEN now() END
             -- the lock keeps the project from being deleted meanwhile
             FROM projects WHERE id = $2 FOR SHARE
             RETURNING *
           ), s AS (
             INSERT INTO operation_steps (operation, position, name)
             SELECT o.id, position, name FROM o, unnest($13::text[]) WITH ORDINALITY AS t(name, position)
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
            operation.idempotency?.key ?? null,
            operation.idempotency?.hash ?? null,
            runner,
            leaseSeconds,
            saga.steps.map((step) => step.name),
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
      const steps = saga.steps.map(({ name }) => {
        const { reply, ...step } = newStep(name);
        return { ...step, progress: null };
      });
      return { operation: toOperation({ ...result, steps }, this.notCancellable), row: runner ? toRow(result) : null };
    } catch (error) {
      if (!violatesUnique(error, 'operations_idempotency') || !operation.idempotency) throw error;
    }
    return { operation: await this.repeated(operation), row: null };
  }

  private async repeated({ actor, idempotency }: NewOperation): Promise<Operation> {
    const found = await this.byIdempotencyKey(actor.token, idempotency!);
    if (!found) throw new M2Error('internal', 'An idempotency key vanished');
    return found;
  }

  /** The operation that this key made. Throws M2Error `idempotency.conflict` when it was made by another request. */
  async byIdempotencyKey(token: string, { key, hash }: { key: string; hash: Buffer }): Promise<Operation | undefined> {
    const [row] = await this.database.query<DbOperation>(
      `SELECT o.*, ${stepsJson} FROM operations o WHERE token = $1 AND idempotency_key = $2`,
      [token, key],
    );
    if (!row) return undefined;
    if (!row.request_hash?.equals(hash))
      throw new M2Error('idempotency.conflict', `The key "${key}" was used for operation ${row.id}`, {
        operation: row.id,
      });
    return toOperation(row, this.notCancellable);
  }

  /** Throws M2Error `operation.not_found`. */
  async show(id: string): Promise<Operation> {
    const operation = await this.find(id);
    if (!operation) throw new M2Error('operation.not_found', `There is no operation ${id}`);
    return operation;
  }

  async find(id: string): Promise<Operation | undefined> {
    const [row] = await this.database.query<DbOperation>(`SELECT o.*, ${stepsJson} FROM operations o WHERE id = $1`, [
      id,
    ]);
    return row && toOperation(row, this.notCancellable);
  }

  async list(filter: {
    projects: string[] | 'all';
    kind?: string | undefined;
    state?: string | undefined;
    cursor?: string | undefined;
    limit: number;
  }): Promise<{ items: Operation[]; next?: string }> {
    const rows = await this.database.query<DbOperation>(
      `SELECT o.*, ${stepsJson} FROM operations o
       WHERE ($1::uuid[] IS NULL OR project = ANY($1)) AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR state = $3)
         AND ($4::uuid IS NULL OR id < $4)
       ORDER BY id DESC LIMIT $5`,
      [
        filter.projects === 'all' ? null : filter.projects,
        filter.kind,
        filter.state,
        newestFirst.read(filter.cursor),
        filter.limit + 1,
      ],
    );
    return newestFirst.page(
      rows.map((row) => toOperation(row, this.notCancellable)),
      filter.limit,
    );
  }

  /** Takes over operations that nobody runs, at most `count`; each with a new fence. */
  async claim(runner: string, count: number): Promise<{ row: OperationRow; steps: StepRow[] }[]> {
    return this.take(
      runner,
      `SELECT id FROM operations WHERE state IN ('running', 'undoing') AND (lease_until IS NULL OR lease_until < now())
       ORDER BY lease_until NULLS FIRST, id LIMIT $3 FOR UPDATE SKIP LOCKED`,
      [count],
    );
  }

  /** Takes back what this replica's earlier life had; only for who knows that it is dead. */
  async reclaim(runner: string): Promise<{ row: OperationRow; steps: StepRow[] }[]> {
    return this.take(
      runner,
      `SELECT id FROM operations WHERE state IN ('running', 'undoing') AND runner = $1 ORDER BY id FOR UPDATE SKIP LOCKED`,
      [],
    );
  }

  private async take(
    runner: string,
    which: string,
    values: unknown[],
  ): Promise<{ row: OperationRow; steps: StepRow[] }[]> {
    const rows = await this.database.query<DbOperation>(
      `UPDATE operations SET runner = $1, fence = fence + 1, lease_until = now() + $2 * interval '1 second',
         started_at = coalesce(started_at, now())
       WHERE id IN (${which}) RETURNING *`,
      [runner, leaseSeconds, ...values],
    );
    return Promise.all(rows.map(async (row) => ({ row: toRow(row), steps: await this.steps(row.id) })));
  }

  async steps(operation: string): Promise<StepRow[]> {
    return this.database.query<StepRow>(
      `SELECT name, state, attempts, started_at AS "startedAt", ended_at AS "endedAt", reply, error
       FROM operation_steps WHERE operation = $1 ORDER BY position`,
      [operation],
    );
  }

  /** Keeps the leases of what runs here. Returns those that are still ours, and whether their cancelling was asked for. */
  async keepLeases(held: { id: string; fence: number }[]): Promise<Map<string, boolean>> {
    const rows = await this.database.query<{ id: string; cancel_requested: boolean }>(
      `UPDATE operations o SET lease_until = now() + $2 * interval '1 second'
       FROM jsonb_to_recordset($1::jsonb) AS h(id uuid, fence bigint) WHERE o.id = h.id AND o.fence = h.fence
       RETURNING o.id, o.cancel_requested`,
      [JSON.stringify(held), leaseSeconds],
    );
    return new Map(rows.map((row) => [row.id, row.cancel_requested]));
  }

  /** From here on the operation is undone. Returns its new fence. Throws LostOperation. */
  async turnBack(operation: OperationRow, error: ErrorValue): Promise<number> {
    const [row] = await this.database.query<{ fence: string }>(
      `UPDATE operations SET state = 'undoing', undoing = true, error = $3, fence = fence + 1 WHERE id = $1 AND fence = $2 RETURNING fence`,
      [operation.id, operation.fence, JSON.stringify(error)],
    );
    if (!row) throw new LostOperation(`Another runner has operation ${operation.id}`);
    return Number(row.fence);
  }

  async end(
    operation: OperationRow,
    saga: Saga<never>,
    state: SagaState<never>,
    outcome: OperationState,
    error: ErrorValue | null,
    attention: string | null,
  ): Promise<void> {
    await this.kit.transact(async (sql, emit) => {
      const [row] = await sql.query<{ id: string }>(
        `UPDATE operations SET state = $3, error = $4, attention = $5, ended_at = CASE WHEN $5::text IS NULL THEN now() END,
             runner = NULL, lease_until = NULL
           WHERE id = $1 AND fence = $2 RETURNING id`,
        [operation.id, operation.fence, outcome, error && JSON.stringify(error), attention],
      );
      if (!row) throw new LostOperation(`Another runner has operation ${operation.id}`);
      await saga.settle?.(sql, state, outcome);
      const { id, project, kind, createdBy } = operation;
      emit(
        operationEnded,
        { id, project, kind, by: createdBy, state: outcome, error: error && shown(error) },
        { entity: id, project },
      );
    });
  }

  private readonly progressSaved = new Map<string, number>();

  /** Keeps how far a step is, at most once a second. Returns whether it was written. */
  async saveProgress(operation: OperationRow, step: string, progress: OperationStep['progress']): Promise<boolean> {
    const key = `${operation.id}/${step}`;
    if (Date.now() - (this.progressSaved.get(key) ?? 0) < 1_000) return false;
    this.progressSaved.set(key, Date.now());
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

  /** Throws M2Error `operation.not_cancellable`. */
  async requestCancel(id: string): Promise<void> {
    const rows = await this.database.query<{ id: string }>(
      `UPDATE operations SET cancel_requested = true WHERE id = $1 AND state = 'running' AND kind <> ALL($2) RETURNING id`,
      [id, this.notCancellable],
    );
    if (rows.length > 0) return;
    const { state, kind } = await this.show(id);
    throw new M2Error('operation.not_cancellable', `Operation ${id} (${kind}) is ${state}`);
  }

  /** Throws M2Error `operation.not_resumable`. */
  async resume(id: string): Promise<void> {
    const rows = await this.database.query<{ id: string }>(
      `UPDATE operations SET state = CASE WHEN undoing THEN 'undoing' ELSE 'running' END, attention = NULL, lease_until = NULL,
         error = CASE WHEN undoing THEN error END
       WHERE id = $1 AND state = 'needs_attention' RETURNING id`,
      [id],
    );
    if (rows.length === 0)
      throw new M2Error('operation.not_resumable', `Operation ${id} is ${(await this.show(id)).state}`);
  }
}

export const newStep = (name: string): StepRow => ({
  name,
  state: 'waiting',
  attempts: 0,
  startedAt: null,
  endedAt: null,
  reply: null,
  error: null,
});

const toRow = (row: DbOperation): OperationRow => ({
  id: row.id,
  project: row.project,
  kind: row.kind,
  input: row.input,
  about: row.about,
  fence: Number(row.fence),
  undoing: row.undoing,
  cancelRequested: row.cancel_requested,
  error: row.error,
  traceparent: row.traceparent,
  createdBy: row.created_by,
});

const iso = (value: Date | string | null) => (value === null ? null : new Date(value).toISOString());

const toOperation = (row: DbOperation, notCancellable: OperationKind[]): Operation => ({
  id: row.id,
  project: row.project,
  kind: row.kind,
  state: row.state,
  about: row.about,
  steps: (row.steps ?? []).map((step) => ({
    ...step,
    error: step.error && shown(step.error),
    startedAt: iso(step.startedAt),
    endedAt: iso(step.endedAt),
  })),
  error: row.error && shown(row.error),
  attention: row.attention,
  cancellable: row.state === 'running' && !row.cancel_requested && !notCancellable.includes(row.kind),
  createdAt: row.created_at.toISOString(),
  startedAt: iso(row.started_at),
  endedAt: iso(row.ended_at),
  createdBy: row.created_by,
});
