import { type AnyUseCase, M2Error, type Project } from '@m2/contracts';
import { Inject, Injectable } from '@nestjs/common';
import { Projects } from '../projects/projects.js';
import { type Actor, demand } from './actor.js';
import { type Authenticator, AUTHENTICATORS, type Credentials } from './authenticator.js';

/** The doors of the gateway. What is done is on record with the door that it was asked for at. */
export type DoorName = 'rest';

/**
 * Proof that somebody may do something: who, what, in which project. Only `Access` makes one, and nothing is done without one, so a door
 * that forgets about access serves nobody.
 */
class Admission {
  constructor(
    readonly useCase: AnyUseCase,
    readonly door: DoorName,
    /** Undefined for what is public. */
    readonly actor: Actor | undefined,
    /** Undefined for what is in no project. */
    readonly project: Project | undefined,
    readonly credentials: Credentials,
  ) {}
}
export type { Admission };

/** Whether `Access` made it; an object of the same shape is none. */
export const isAdmission = (value: unknown): value is Admission => value instanceof Admission;

/** The one place that decides who may what, whatever door it is asked for at. */
@Injectable()
export class Access {
  constructor(
    @Inject(AUTHENTICATORS) private readonly authenticators: Authenticator[],
    @Inject(Projects) private readonly projects: Projects,
  ) {}

  /** What an answer `auth.missing` or `auth.invalid` says of the credentials that are taken. */
  get challenges(): string[] {
    return this.authenticators.map(({ challenge }) => challenge);
  }

  /**
   * Lets somebody do something, in the project that the request names. Throws M2Error `auth.missing`, `auth.invalid`, `auth.forbidden`,
   * `project.not_found`.
   */
  async admit(
    useCase: AnyUseCase,
    door: DoorName,
    credentials: Credentials,
    project: string | undefined,
  ): Promise<Admission> {
    const { permission, scope } = useCase;
    if (permission === 'public') return new Admission(useCase, door, undefined, undefined, credentials);
    const actor = await this.authenticate(credentials);
    demand(actor, permission);
    if (scope === 'installation') return new Admission(useCase, door, actor, undefined, credentials);
    if (project === undefined) throw new M2Error('project.not_found', 'The request names no project');
    return new Admission(useCase, door, actor, await this.projects.visible(project, actor.project), credentials);
  }

  /**
   * Decides again about somebody who was let in, for what lasts. Throws M2Error as `admit` does, when that one would not be let in any more.
   */
  async confirm({ useCase, door, credentials, project }: Admission): Promise<void> {
    await this.admit(useCase, door, credentials, project?.id);
  }

  private async authenticate(credentials: Credentials): Promise<Actor> {
    for (const authenticator of this.authenticators) {
      const actor = await authenticator.authenticate(credentials);
      if (actor) return actor;
    }
    const { authorization } = credentials;
    throw new M2Error(
      'auth.missing',
      authorization ? 'The Authorization header is of no kind that is taken here' : 'There is no Authorization header',
    );
  }
}
