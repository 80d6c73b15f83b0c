import { M2Error, type Operation, useCases } from '@m2/contracts';
import type { Actor } from '../../access/actor.js';
import { reachOf } from '../reach.js';
import { implement, type Parts, type Told } from '../use-case.js';

/** A change that nobody told of (a message was lost) is seen after this time. */
const pollMs = 2_000;

export const listOperations = implement(
  useCases.operationList,
  async ({ runner, projects }, { actor }, { project, ...filter }) =>
    runner.store.list({ ...filter, projects: await reachOf(projects, actor, project) }),
);

export const showOperation = implement(
  useCases.operationShow,
  (parts, { actor }, { id }) => visible(parts, actor, id),
  async (parts, { actor }, { id }, signal) => {
    await visible(parts, actor, id);
    return follow(parts, id, signal);
  },
);

export const cancelOperation = implement(useCases.operationCancel, async (parts, { actor }, { id }) => {
  await visible(parts, actor, id);
  await parts.runner.cancel(id);
  return parts.runner.store.show(id);
});

export const resumeOperation = implement(useCases.operationResume, async (parts, { actor }, { id }) => {
  await visible(parts, actor, id);
  await parts.runner.resume(id);
  return parts.runner.store.show(id);
});

export const planSkip = implement(useCases.operationSkipPlan, async (parts, { actor }, { id, step }) => {
  await visible(parts, actor, id);
  return parts.runner.planSkip(id, step);
});

export const skipStep = implement(useCases.operationSkipStep, async (parts, { actor }, { id, step, reason }) => {
  await visible(parts, actor, id);
  await parts.runner.skipStep(id, step, { by: actor.name, reason });
  return parts.runner.store.show(id);
});

export const planAbandon = implement(useCases.operationAbandonPlan, async (parts, { actor }, { id }) => {
  await visible(parts, actor, id);
  return parts.runner.planAbandon(id);
});

export const abandonOperation = implement(useCases.operationAbandon, async (parts, { actor }, { id, reason }) => {
  await visible(parts, actor, id);
  await parts.runner.abandon(id, { by: actor.name, reason });
  return parts.runner.store.show(id);
});

/** Another project's operation is not there. */
async function visible({ runner }: Parts, actor: Actor, id: string): Promise<Operation> {
  const operation = await runner.store.show(id);
  if (actor.project && operation.project !== actor.project)
    throw new M2Error('operation.not_found', `There is no operation ${id}`);
  return operation;
}

/** The operation as it is, and again after each change, until it ends. */
async function* follow({ runner, live }: Parts, id: string, signal: AbortSignal): AsyncGenerator<Told> {
  // Listen first, then look: what changes in between is seen.
  const changes = live.changes(id, pollMs, signal);
  let seen = '';
  try {
    do {
      const current = await runner.store.show(id);
      const text = JSON.stringify(current);
      if (text !== seen) yield { event: 'operation', data: current };
      seen = text;
      if (current.endedAt || current.state === 'needs_attention') return;
    } while (!(await changes.next()).done);
  } finally {
    await changes.return(undefined);
  }
}
