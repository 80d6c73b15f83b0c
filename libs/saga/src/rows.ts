import {
  type ErrorValue,
  type Operation,
  type OperationKind,
  type OperationState,
  type OperationStep,
  shown,
} from '@m2/contracts';
import type { StepRow } from './journal.js';
import type { Step } from './saga.js';

/** What a runner has to know of an operation. */
export interface OperationRow {
  id: string;
  project: string;
  kind: OperationKind;
  version: number;
  input: unknown;
  about: Record<string, string>;
  fence: number;
  undoing: boolean;
  cancelRequested: boolean;
  /** How often in a row a runner died, or gave up, before a step came to its end. */
  takeovers: number;
  error: ErrorValue | null;
  traceparent: string | null;
  createdBy: string;
}

export interface DbOperation {
  id: string;
  project: string;
  kind: OperationKind;
  version: number;
  state: OperationState;
  input: unknown;
  about: Record<string, string>;
  fence: string;
  undoing: boolean;
  cancel_requested: boolean;
  takeovers: number;
  error: ErrorValue | null;
  attention: string | null;
  traceparent: string | null;
  created_by: string;
  not_before: Date | null;
  created_at: Date;
  started_at: Date | null;
  ended_at: Date | null;
  steps?: OperationStep[];
}

/** A step as it is accepted. */
export const newStep = ({ name, after }: Pick<Step<never>, 'name' | 'after'>): StepRow => ({
  name,
  after,
  state: 'waiting',
  attempts: 0,
  startedAt: null,
  endedAt: null,
  reply: null,
  error: null,
  undoStartedAt: null,
  undoEndedAt: null,
  skip: null,
});

export const toRow = (row: DbOperation): OperationRow => ({
  id: row.id,
  project: row.project,
  kind: row.kind,
  version: row.version,
  input: row.input,
  about: row.about,
  fence: Number(row.fence),
  undoing: row.undoing,
  cancelRequested: row.cancel_requested,
  takeovers: row.takeovers,
  error: row.error,
  traceparent: row.traceparent,
  createdBy: row.created_by,
});

const iso = (value: Date | string | null) => (value === null ? null : new Date(value).toISOString());

/** The steps of the operation `o`, as `toOperation` takes them. */
export const stepsJson = `
  (SELECT coalesce(jsonb_agg(jsonb_build_object('name', s.name, 'state', s.state, 'attempts', s.attempts, 'startedAt', s.started_at,
     'endedAt', s.ended_at, 'undoStartedAt', s.undo_started_at, 'undoEndedAt', s.undo_ended_at,
     'progress', CASE WHEN s.absent IS NULL OR s.state NOT IN ('running', 'undoing') THEN s.progress
       ELSE jsonb_build_object('done', 0, 'total', NULL, 'text', s.absent) END,
     'error', s.error, 'skipped', s.skipped) ORDER BY s.position), '[]')
   FROM operation_steps s WHERE s.operation = o.id) AS steps`;

const mayTurnBack = ({ state, undoing }: DbOperation) =>
  state === 'running' || (state === 'needs_attention' && !undoing);

/** The operation as everybody may see it. `cancellable`: its saga allows it. */
export const toOperation = (row: DbOperation, cancellable: boolean): Operation => ({
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
    undoStartedAt: iso(step.undoStartedAt),
    undoEndedAt: iso(step.undoEndedAt),
  })),
  error: row.error && shown(row.error),
  attention: row.attention,
  cancellable: cancellable && !row.cancel_requested && mayTurnBack(row),
  cancelRequested: row.cancel_requested,
  notBefore: iso(row.not_before),
  createdAt: row.created_at.toISOString(),
  startedAt: iso(row.started_at),
  endedAt: iso(row.ended_at),
  createdBy: row.created_by,
});
