import type { Project } from '@m2/contracts';
import type { Actor } from '../access/actor.js';

/** The key of a request that may be sent again, with a hash of what was asked, so that another request under the same key is found out. */
export interface Idempotency {
  key: string;
  hash: Buffer;
}

/** For whom, and in which project, an operation is begun. */
export interface Commission {
  actor: Actor;
  project: Project;
  idempotency: Idempotency | undefined;
}
