import { M2Error, type Operation, useCases } from '@m2/contracts';
import type { Actor } from '../../access/actor.js';
import { reachOf } from '../reach.js';
import { implement, type Parts, type Told } from '../use-case.js';

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
    return follow(parts.live.watch(id, signal));
  },
);

export const cancelOperation = implement(
  useCases.operationCancel,
  decision(({ runner }, { id }, decided) => runner.cancel(id, decided)),
);

export const resumeOperation = implement(
  useCases.operationResume,
  decision(({ runner }, { id }, decided) => runner.resume(id, decided)),
);

export const planSkip = implement(useCases.operationSkipPlan, async (parts, { actor }, { id, step }) => {
  await visible(parts, actor, id);
  return parts.runner.planSkip(id, step);
});

export const skipStep = implement(
  useCases.operationSkipStep,
  decision(({ runner }, { id, step, reason }, decided, by) => runner.skipStep(id, step, { by, reason }, decided)),
);

export const planAbandon = implement(useCases.operationAbandonPlan, async (parts, { actor }, { id }) => {
  await visible(parts, actor, id);
  return parts.runner.planAbandon(id);
});

export const abandonOperation = implement(
  useCases.operationAbandon,
  decision(({ runner }, { id, reason }, decided, by) => runner.abandon(id, { by, reason }, decided)),
);

/** What somebody decides of an operation that he may see; answered with the operation. The request's identifier is the decision's. */
function decision<Input extends { id: string }>(
  decide: (parts: Parts, input: Input, decided: string, by: string) => Promise<void>,
) {
  return async (parts: Parts, { id, actor }: { id: string; actor: Actor }, input: Input): Promise<Operation> => {
    await visible(parts, actor, input.id);
    await decide(parts, input, id, actor.name);
    return parts.runner.store.show(input.id);
  };
}

/** Another project's operation is not there. */
async function visible({ runner }: Parts, actor: Actor, id: string): Promise<Operation> {
  const operation = await runner.store.show(id);
  if (actor.project && operation.project !== actor.project)
    throw new M2Error('operation.not_found', `There is no operation ${id}`);
  return operation;
}

async function* follow(states: AsyncIterable<Operation>): AsyncGenerator<Told> {
  for await (const data of states) yield { event: 'operation', data };
}
