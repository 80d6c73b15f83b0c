import { type AuditEvent, projectDeleted, useCases } from '@m2/contracts';
import { reachOf } from '../reach.js';
import { implement, type Told } from '../use-case.js';

export const listEvents = implement(
  useCases.eventList,
  async ({ audit, projects }, { actor }, { project, ...filter }) =>
    audit.list({ ...filter, projects: await reachOf(projects, actor, project) }),
  async ({ audit, projects }, { actor }, { project, ...filter }, signal) => {
    const reach = await reachOf(projects, actor, project);
    return tell(
      await audit.follow({ ...filter, projects: reach }, signal),
      project === undefined ? undefined : reach[0],
    );
  },
);

/** Of a project that was named, its end is the last thing to tell. */
async function* tell(events: AsyncIterable<AuditEvent>, only: string | undefined): AsyncGenerator<Told> {
  for await (const event of events) {
    yield { id: event.sequence, event: event.type, data: event };
    if (event.type === projectDeleted.type && event.project === only) return;
  }
}
