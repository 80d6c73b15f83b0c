import {
  M2Error,
  operationAbandoned,
  operationEnded,
  type OperationState,
  operationStepSkipped,
  shown,
  type StepState,
  type WayOut,
} from '@m2/contracts';
import type { Database, Sql } from '@m2/service-kit';
import { readSteps } from './claims.js';
import type { RecordedStep, StepRow } from './journal.js';
import type { SagaRegistry } from './registry.js';
import type { DbOperation } from './rows.js';
import { type OperationStore, resumeIn } from './store.js';
import { isForwardOnly, type Saga, type SagaState, type Skip, type Step, stepsOf } from './saga.js';

/** An operation that a person may end, with its saga, where that is known here. */
interface Stuck {
  row: DbOperation;
  saga: Saga<never> | undefined;
  /** What keeps it from its end, in the direction in which it goes. */
  left: { row: RecordedStep; step: Step<never> | undefined }[];
}

/** It was tried, and it is not known to be done. */
const tried: StepState[] = ['running', 'undoing', 'unknown', 'failed'];
const stuckStates: OperationState[] = ['needs_attention', 'running', 'undoing'];

/**
 * What a person may do with an operation that goes neither on nor back: it needs attention, or waits for a service that is not there. Each
 * way is told before it is taken, and is on record after. A runner that has the operation loses it.
 */
export class WaysOut {
  constructor(
    private readonly database: Database,
    private readonly store: Pick<OperationStore, 'decide'>,
    private readonly sagas: SagaRegistry,
  ) {}

  /** What would stay behind. Throws M2Error `operation.not_found`, `operation.not_resumable`, `operation.step_not_skippable`. */
  async planSkip(id: string, step: string): Promise<WayOut> {
    const stuck = await this.stuck(this.database, id);
    const { leaves, unsafe, guard } = skipRule(stuck, step);
    return { operation: id, steps: [{ step, leaves, unsafe: unsafe && [unsafe, guard].filter(Boolean).join(' ') }] };
  }

  /** Leaves a stuck step out, and lets the operation go on. Returns whether it was done now (see `decide`). Throws as `planSkip` does. */
  skipStep(id: string, step: string, skip: Skip, decision: string): Promise<boolean> {
    return this.store.decide(id, decision, async (sql, emit) => {
      const stuck = await this.stuck(sql, id);
      skipRule(stuck, step);
      await sql.query('UPDATE operation_steps SET skipped = $3 WHERE operation = $1 AND name = $2', [
        id,
        step,
        JSON.stringify(skip),
      ]);
      const { project, kind } = stuck.row;
      emit(operationStepSkipped, { id, project, kind, step, ...skip }, { entity: id, project });
      await resumeIn(sql, emit, stuck.row, stuckStates);
    });
  }

  /** What would stay behind. Throws M2Error `operation.not_found`, `operation.not_resumable`. */
  async planAbandon(id: string): Promise<WayOut> {
    const { left } = await this.stuck(this.database, id);
    const steps = left.map(({ row: { name }, step }) => ({
      step: name,
      leaves: step?.skip?.leaves ?? `What ${name} made, or was to take back, stays as it is.`,
      unsafe: step?.skip?.unsafe ?? null,
    }));
    return { operation: id, steps };
  }

  /** Ends the operation as it is: nothing more is done or taken back. Returns as `skipStep` does. Throws as `planAbandon` does. */
  abandon(id: string, { by, reason }: Skip, decision: string): Promise<boolean> {
    return this.store.decide(id, decision, async (sql, emit) => {
      const { row, saga, left } = await this.stuck(sql, id);
      const names = left.map(({ row: { name } }) => name);
      const record = `Abandoned by ${by}: ${reason.replace(/\.$/, '')}. Left as they are: ${names.join(', ') || 'nothing'}`;
      await sql.query(
        `UPDATE operations SET state = 'abandoned', attention = $2, ended_at = now(), fence = fence + 1,
           runner = NULL, lease_until = NULL
         WHERE id = $1 AND state = ANY($3)`,
        [id, record, stuckStates],
      );
      const { project, kind, created_by, error } = row;
      await (saga ?? this.sagas.newest(kind)).settle?.(sql, stateOf(row), 'abandoned');
      emit(operationAbandoned, { id, project, kind, by, reason, left: names }, { entity: id, project });
      emit(
        operationEnded,
        { id, project, kind, by: created_by, state: 'abandoned', error: error && shown(error) },
        { entity: id, project },
      );
    });
  }

  private async stuck(sql: Sql, id: string): Promise<Stuck> {
    const [row] = await sql.query<DbOperation>('SELECT * FROM operations WHERE id = $1', [id]);
    if (!row) throw new M2Error('operation.not_found', `There is no operation ${id}`);
    const saga = this.sagas.find(row.kind, row.version);
    const steps = saga ? stepsOf(saga, row.input as never) : [];
    const rows = await readSteps(sql, id);
    const all = rows.map((one) => ({ row: one, step: steps.find(({ name }) => name === one.name) }));
    const left = all.filter(({ row: one, step }) => isLeft(one, step, saga, row.undoing));
    const isStuck = row.state === 'needs_attention' || left.some(({ row: { absent } }) => absent !== null);
    if (!isStuck || !stuckStates.includes(row.state))
      throw new M2Error('operation.not_resumable', `Operation ${id} is ${row.state}`);
    return { row, saga, left };
  }
}

/** Without its saga nobody knows which way a step goes: whatever was begun counts as left. */
function isLeft({ state }: StepRow, step: Step<never> | undefined, saga: Saga<never> | undefined, undoing: boolean) {
  const happened = ['done', ...tried].includes(state);
  if (!step) return happened;
  if (isForwardOnly(saga!, step)) return !undoing && !['done', 'skipped'].includes(state);
  return step.undo !== undefined && happened && !(undoing && state === 'failed');
}

function skipRule({ row, saga, left }: Stuck, name: string) {
  const refuse = (why: string) => new M2Error('operation.step_not_skippable', `${name} of operation ${row.id} ${why}`);
  const isStuck = ({ state, absent }: RecordedStep) =>
    tried.includes(state) && (row.state === 'needs_attention' || absent !== null);
  const found = left.find((one) => one.row.name === name && isStuck(one.row));
  if (!found) throw refuse('is not stuck');
  const { step } = found;
  // What a later step builds on is not left out on the way on; on the way back nothing builds on it.
  if (!step?.skip || (!row.undoing && !isForwardOnly(saga!, step))) throw refuse('is needed by what follows');
  return step.skip;
}

const stateOf = (row: DbOperation): SagaState<never> => ({
  operation: row.id,
  project: row.project,
  input: row.input as never,
  reply: () => {
    throw new Error('An operation that is abandoned has no replies');
  },
  isSkipped: () => false,
});
