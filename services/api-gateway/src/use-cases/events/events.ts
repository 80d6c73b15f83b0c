import { useCases } from '@m2/contracts';
import { type Audit, type EventFilter, readCursor } from '../../events/audit.js';
import { reachOf } from '../reach.js';
import { implement, type Told } from '../use-case.js';

export const listEvents = implement(
  useCases.eventList,
  async ({ audit, projects }, { actor }, { project, ...filter }) =>
    audit.list({ ...filter, projects: await reachOf(projects, actor, project) }),
  async ({ audit, projects }, { actor }, { project, ...filter }, signal) => {
    readCursor(filter.cursor);
    return follow(audit, { ...filter, projects: await reachOf(projects, actor, project) }, signal);
  },
);

async function* follow(audit: Audit, filter: EventFilter, signal: AbortSignal): AsyncGenerator<Told> {
  for await (const event of audit.follow(filter, signal)) yield { id: event.sequence, event: event.type, data: event };
}
