import { type OperationKind, operationNeedsAttention } from '@m2/contracts';
import type { Database, Kit, Sql } from '@m2/service-kit';
import type { RecordedStep, StepRow } from './journal.js';
import { type DbOperation, type OperationRow, toRow } from './rows.js';

/** Seconds for which an operation belongs to its runner without a renewal. */
export const leaseSeconds = 15;
/** Seconds after which a runner that nothing was heard of counts as dead. A restart and an upgrade fit into it. */
const runnerSeconds = 60;

export interface Claimed {
  row: OperationRow;
  steps: StepRow[];
}

const open = `state IN ('running', 'undoing')`;
const unheld = (o: string) => `(${o}.lease_until IS NULL OR ${o}.lease_until < now())`;
const known = (o: string, keys: string) => `${o}.kind || '@' || ${o}.version = ANY(${keys})`;

/** Who runs which operation. A runner takes only operations whose saga it knows, and all clocks are the database's. */
export class Claims {
  private readonly database: Database;

  /** `knows`: the keys of the sagas of this runner (see `sagaKey`). */
  constructor(
    private readonly kit: Pick<Kit, 'database' | 'transact'>,
    private readonly runner: { id: string; instance: string; knows: string[] },
  ) {
    this.database = kit.database;
  }

  /**
   * Says that this runner lives, and what it knows. Answers whether it has lived long enough to judge others: one that has just come, or was
   * cut off for a while, cannot tell a dead runner from one that comes back at this moment.
   */
  async beAlive(): Promise<boolean> {
    const [row] = await this.database.query<{ settled: boolean }>(
      `INSERT INTO saga_runners AS r (id, knows) VALUES ($1, $2)
       ON CONFLICT (id) DO UPDATE SET seen_at = now(),
         since = CASE WHEN r.seen_at < now() - $3 * interval '1 second' THEN now() ELSE r.since END
       RETURNING since < now() - $4 * interval '1 second' AS settled`,
      [this.runner.id, this.runner.knows, leaseSeconds, runnerSeconds],
    );
    return row!.settled;
  }

  /**
   * Takes operations that nobody runs, at most `room`, each with a new fence. Projects take turns, so that the thousand operations of one do not
   * stop the one of another; `busy` is how many of each project this runner has already, and none gets more than `perProject` of its room.
   * Also answers how many there were to be had, the taken ones included.
   */
  async claim(
    room: number,
    busy: Record<string, number>,
    perProject: number,
  ): Promise<{ claimed: Claimed[]; waiting: number }> {
    const rows = await this.database.query<DbOperation & { waiting: number }>(
      `WITH free AS (
         SELECT id, row_number() OVER (PARTITION BY project ORDER BY id) + coalesce(($5::jsonb ->> project::text)::int, 0) AS turn
         FROM operations o
         WHERE ${open} AND ${unheld('o')} AND ${known('o', '$3::text[]')}
           AND (not_before IS NULL OR not_before <= now() OR cancel_requested)
       ), mine AS (
         SELECT o.id FROM operations o JOIN free USING (id)
         WHERE free.turn <= $6 AND o.${open} AND ${unheld('o')}
         ORDER BY free.turn, o.id LIMIT $4 FOR UPDATE OF o SKIP LOCKED
       ), taken AS (${taking('SELECT id FROM mine')})
       SELECT w.waiting, taken.* FROM (SELECT count(*)::int AS waiting FROM free) w LEFT JOIN taken ON true`,
      [this.runner.instance, leaseSeconds, this.runner.knows, room, JSON.stringify(busy), perProject],
    );
    return { claimed: await this.withSteps(rows.filter(({ id }) => id)), waiting: rows[0]!.waiting };
  }

  /** Takes back what this replica's earlier life had; only for who knows that it is dead. */
  async reclaim(): Promise<Claimed[]> {
    const rows = await this.database.query<DbOperation>(
      taking(`SELECT id FROM operations o WHERE ${open} AND runner = $1 AND ${known('o', '$3::text[]')}
              ORDER BY id FOR UPDATE SKIP LOCKED`),
      [this.runner.instance, leaseSeconds, this.runner.knows],
    );
    return this.withSteps(rows);
  }

  private withSteps(rows: DbOperation[]): Promise<Claimed[]> {
    return Promise.all(rows.map(async (row) => ({ row: toRow(row), steps: await readSteps(this.database, row.id) })));
  }

  /**
   * Keeps the leases of what runs here. Returns those that are still ours, and whether their cancelling was asked for. `steady`: it has run here
   * for a while, so whatever ended its earlier runners does not end this one.
   */
  async keepLeases(held: { id: string; fence: number; steady: boolean }[]): Promise<Map<string, boolean>> {
    const rows = await this.database.query<{ id: string; cancel_requested: boolean }>(
      `WITH mine AS (
         SELECT o.id, h.steady FROM jsonb_to_recordset($1::jsonb) AS h(id uuid, fence bigint, steady boolean)
         JOIN operations o ON o.id = h.id AND o.fence = h.fence ORDER BY o.id FOR NO KEY UPDATE OF o
       )
       UPDATE operations o SET lease_until = now() + $2 * interval '1 second',
         takeovers = CASE WHEN m.steady THEN 0 ELSE o.takeovers END
       FROM mine m WHERE o.id = m.id
       RETURNING o.id, o.cancel_requested`,
      [JSON.stringify(held), leaseSeconds],
    );
    return new Map(rows.map((row) => [row.id, row.cancel_requested]));
  }

  /** Lets go of operations in good order: any runner may take them at once, and that counts against none of them. */
  async release(held: { id: string; fence: number }[]): Promise<void> {
    await this.database.query(
      `UPDATE operations o SET runner = NULL, lease_until = NULL
       FROM jsonb_to_recordset($1::jsonb) AS h(id uuid, fence bigint)
       WHERE o.id = h.id AND o.fence = h.fence AND o.${open}`,
      [JSON.stringify(held)],
    );
  }

  /** Operations whose saga no living runner knows: a person has to decide. Forgets dead runners. */
  async parkUnknown(): Promise<void> {
    await this.kit.transact(async (sql, emit) => {
      await sql.query(`DELETE FROM saga_runners WHERE seen_at < now() - $1 * interval '1 second'`, [runnerSeconds]);
      const rows = await sql.query<{
        id: string;
        project: string;
        kind: OperationKind;
        created_by: string;
        attention: string;
      }>(
        `UPDATE operations o SET state = 'needs_attention', fence = fence + 1, runner = NULL, lease_until = NULL,
           attention = format('No gateway that runs knows version %s of %s. Start one that does, then run: m2 operation resume %s',
             version, kind, id)
         WHERE ${open} AND ${unheld('o')}
           AND NOT EXISTS (SELECT 1 FROM saga_runners r WHERE ${known('o', 'r.knows')})
         RETURNING id, project, kind, created_by, attention`,
      );
      for (const { id, project, kind, created_by: by, attention } of rows)
        emit(operationNeedsAttention, { id, project, kind, by, attention, error: null }, { entity: id, project });
    });
  }
}

/** `$1` is the replica, `$2` the length of the lease. Who takes an operation from a runner that did not let go of it counts that. */
const taking = (which: string) => `
  UPDATE operations SET runner = $1, fence = fence + 1, lease_until = now() + $2 * interval '1 second',
    started_at = coalesce(started_at, now()), takeovers = takeovers + CASE WHEN runner IS NULL THEN 0 ELSE 1 END
  WHERE id IN (${which}) RETURNING *`;

export const readSteps = (database: Sql, operation: string): Promise<RecordedStep[]> =>
  database.query<RecordedStep>(
    `SELECT name, after, state, attempts, started_at AS "startedAt", ended_at AS "endedAt", reply, error,
       undo_started_at AS "undoStartedAt", undo_ended_at AS "undoEndedAt", skipped AS skip,
       CASE WHEN state IN ('running', 'undoing') THEN absent END AS absent
     FROM operation_steps WHERE operation = $1 ORDER BY position`,
    [operation],
  );
