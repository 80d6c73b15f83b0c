import { M2Error, routes } from '@m2/contracts';
import { Controller, Inject } from '@nestjs/common';
import { Given, type Input, Serve, Who } from '../door/serve.js';
import { Projects } from '../projects/projects.js';
import type { Actor } from './actor.js';
import { Tokens } from './tokens.js';

@Controller()
export class AccessController {
  constructor(
    @Inject(Tokens) private readonly tokens: Tokens,
    @Inject(Projects) private readonly projects: Projects,
  ) {}

  @Serve(routes.whoami)
  whoami(@Who() actor: Actor) {
    return actor;
  }

  @Serve(routes.tokenCreate)
  async create(@Given(routes.tokenCreate) { body }: Input<typeof routes.tokenCreate>, @Who() actor: Actor) {
    const project = body.project ? await this.projects.visible(body.project, actor) : null;
    return this.tokens.create(body.name, body.role, project?.id ?? null);
  }

  @Serve(routes.tokenList)
  list(@Given(routes.tokenList) { query }: Input<typeof routes.tokenList>) {
    return this.tokens.list(query.cursor, query.limit);
  }

  @Serve(routes.tokenRevoke)
  async revoke(
    @Given(routes.tokenRevoke) { params }: Input<typeof routes.tokenRevoke>,
    @Who() actor: Actor,
  ): Promise<void> {
    if (params.id === actor.token) throw new M2Error('request.invalid', 'A token cannot revoke itself');
    await this.tokens.revoke(params.id);
  }
}
