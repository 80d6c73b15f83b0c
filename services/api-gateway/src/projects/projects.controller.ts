import { diskList, imageList, type Project, routes } from '@m2/contracts';
import { type Kit, KIT } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import type { Actor } from '../access/actor.js';
import { ask } from '../door/ask.js';
import { Given, In, type Input, Serve, Who } from '../door/serve.js';
import { Projects } from './projects.js';

@Controller()
export class ProjectsController {
  constructor(
    @Inject(KIT) private readonly kit: Kit,
    @Inject(Projects) private readonly projects: Projects,
  ) {}

  @Serve(routes.projectList)
  list(@Given(routes.projectList) { query }: Input<typeof routes.projectList>, @Who() actor: Actor) {
    return this.projects.list(actor, query.cursor, query.limit);
  }

  @Serve(routes.projectCreate)
  create(@Given(routes.projectCreate) { body }: Input<typeof routes.projectCreate>) {
    return this.projects.create(body.name);
  }

  @Serve(routes.projectShow)
  show(@In() project: Project) {
    return project;
  }

  @Serve(routes.projectDelete)
  async delete(@In() project: Project): Promise<void> {
    await this.projects.delete(project, async () => {
      const one = { project: project.id, limit: 1 };
      const pages = await Promise.all([
        // What others let it use is no reason to keep it.
        ask(this.kit, imageList, { ...one, own: true }),
        ask(this.kit, diskList, one),
        ask(this.kit, diskList, { ...one, trashed: true }),
      ]);
      return pages.every(({ items }) => items.length === 0);
    });
  }
}
