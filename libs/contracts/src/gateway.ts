import { z } from 'zod';
import { errorValue, id, label, name, reason, time } from './fields.js';
import { event } from './message.js';

export const roles = ['admin', 'operator', 'member', 'auditor'] as const;
export type Role = (typeof roles)[number];

export const project = z.object({ id, name, createdAt: time });
export type Project = z.infer<typeof project>;

export const token = z.object({ id, name, role: z.enum(roles), project: id.nullable(), createdAt: time });
export type Token = z.infer<typeof token>;

export const operationKinds = [
  'provision',
  'deprovision',
  'disk.create',
  'disk.update',
  'disk.tag',
  'disk.untag',
  'disk.rollback',
  'disk.flatten',
  'disk.delete',
  'disk.restore',
  'image.import',
  'image.update',
  'image.export',
  'image.delete',
] as const;
export type OperationKind = (typeof operationKinds)[number];

/** `abandoned`: a person ended it as it was. What it had made, or had still to take back, stays. */
export const operationStates = [
  'running',
  'undoing',
  'succeeded',
  'failed',
  'cancelled',
  'needs_attention',
  'abandoned',
] as const;
export type OperationState = (typeof operationStates)[number];

/** Those in which nothing happens any more. */
export const operationEnds = ['succeeded', 'failed', 'cancelled', 'abandoned'] as const satisfies OperationState[];
export type OperationEnd = (typeof operationEnds)[number];

/** `unknown`: the intent is on record and the outcome is not; a crash may have been in between. */
export const stepStates = ['waiting', 'running', 'unknown', 'done', 'skipped', 'failed', 'undoing', 'undone'] as const;
export type StepState = (typeof stepStates)[number];

export const operationStep = z.object({
  name: z.string(),
  state: z.enum(stepStates),
  attempts: z.int(),
  startedAt: time.nullable(),
  endedAt: time.nullable(),
  undoStartedAt: time.nullable(),
  undoEndedAt: time.nullable(),
  progress: z.object({ done: z.number(), total: z.number().nullable(), text: z.string() }).nullable(),
  error: errorValue.nullable(),
  /** A person left it out: who, and why. */
  skipped: z.object({ by: z.string(), reason: z.string() }).nullable(),
});
export type OperationStep = z.infer<typeof operationStep>;

export const operation = z.object({
  id,
  project: id,
  kind: z.enum(operationKinds),
  state: z.enum(operationStates),
  /** What it makes or changes: `{ provision, node, disk, image … }` by identifier. */
  about: z.record(z.string(), z.string()),
  steps: z.array(operationStep),
  error: errorValue.nullable(),
  /** For `needs_attention`: what is left, and what to do. For `abandoned`: who ended it, why, and what is left. */
  attention: z.string().nullable(),
  cancellable: z.boolean(),
  /** Somebody asked that it stop. */
  cancelRequested: z.boolean(),
  /** It is not begun before this moment. */
  notBefore: time.nullable(),
  createdAt: time,
  startedAt: time.nullable(),
  endedAt: time.nullable(),
  createdBy: z.string(),
});
export type Operation = z.infer<typeof operation>;

/** What a person is told before a step is left out, or an operation is abandoned: what stays behind, and what may do harm from then on. */
export const wayOut = z.object({
  operation: id,
  steps: z.array(z.object({ step: z.string(), leaves: z.string(), unsafe: z.string().nullable() })),
});
export type WayOut = z.infer<typeof wayOut>;

export const provision = z.object({
  id,
  project: id,
  node: id,
  nodeName: name,
  nic: name,
  disk: id,
  diskName: name,
  image: id.nullable(),
  state: z.enum(['provisioning', 'ready', 'booted', 'deprovisioning', 'ended', 'failed']),
  /** The operation that changes it now, or changed it last. */
  operation: id,
  report: z.record(z.string(), z.unknown()).nullable(),
  createdAt: time,
  endedAt: time.nullable(),
});
export type Provision = z.infer<typeof provision>;

export const auditEvent = z.object({
  id,
  sequence: z.string(),
  type: z.string(),
  project: id.nullable(),
  time,
  traceparent: z.string().nullable(),
  data: z.record(z.string(), z.unknown()),
});
export type AuditEvent = z.infer<typeof auditEvent>;

export const changeAccepted = event(
  'gateway.change.accepted',
  'Somebody was let change something at once; what came of it is told by the events of the same trace',
  z.object({ id, project: id.nullable(), useCase: label, door: label, by: label, token: id }),
);

/** What is left and why, in the words of an error, and what to do. */
const attention = z.string().max(4_000);

const operationRef = z.object({ id, project: id, kind: z.enum(operationKinds), by: label });
export const operationStarted = event('gateway.operation.started', 'An operation was accepted', operationRef);
export const operationEnded = event(
  'gateway.operation.ended',
  'An operation ended, once and for good: as asked, undone or abandoned',
  operationRef.extend({ state: z.enum(operationEnds), error: errorValue.nullable() }),
);
export const operationNeedsAttention = event(
  'gateway.operation.attention-needed',
  'An operation goes neither on nor back before a person decides',
  operationRef.extend({ attention, error: errorValue.nullable() }),
);
export const operationResumed = event(
  'gateway.operation.resumed',
  'An operation that needed attention goes on, or back: a person resumed or cancelled it, or left a step out',
  operationRef,
);
/** `by` is who did it, for `reason`. */
const decided = operationRef.extend({ reason });
export const operationStepSkipped = event(
  'gateway.operation.step-skipped',
  'A person left a step of a stuck operation out',
  decided.extend({ step: label }),
);
export const operationAbandoned = event(
  'gateway.operation.abandoned',
  'A person ended a stuck operation as it was',
  decided.extend({ left: z.array(label).max(500) }),
);
export const projectCreated = event(
  'gateway.project.created',
  'A project is there',
  z.object({ id, project: id, name }),
);
export const projectDeleted = event(
  'gateway.project.deleted',
  'A project is gone',
  z.object({ id, project: id, name }),
);
export const tokenCreated = event(
  'gateway.token.created',
  'A token was handed out',
  z.object({ id, project: id.nullable(), name, role: z.enum(roles) }),
);
export const tokenRevoked = event(
  'gateway.token.revoked',
  'A token is void',
  z.object({ id, project: id.nullable(), name }),
);
