import type { Actor } from '../access/actor.js';
import type { Projects } from '../projects/projects.js';

/** The projects that a list is about: the one that was named, or all that the actor reaches. Throws M2Error `project.not_found`. */
export async function reachOf(projects: Projects, actor: Actor, named: string | undefined): Promise<string[] | 'all'> {
  if (named !== undefined) return [(await projects.visible(named, actor.project)).id];
  return actor.project ? [actor.project] : 'all';
}
