import type { Project } from '@m2/contracts';
import type { Commission as BareCommission } from '@m2/saga';
import type { Actor } from '../access/actor.js';

/** What the engine has to know of a request, and what the gateway knows beside. */
export interface Commission extends BareCommission {
  actor: Actor;
  project: Project;
}
