import type { AnyUseCase, InputOfUseCase, OutputOfUseCase, Project } from '@m2/contracts';
import type { Runner } from '@m2/saga';
import type { Kit } from '@m2/service-kit';
import type { DoorName } from '../access/access.js';
import type { Actor } from '../access/actor.js';
import type { Tokens } from '../access/tokens.js';
import type { GatewayConfig } from '../config.js';
import type { Audit } from '../events/audit.js';
import type { Live } from '../operations/live.js';
import type { Projects } from '../projects/projects.js';
import type { Provisions } from '../provisions/provisions.js';

/** What use cases are made of. Each takes what it needs. */
export interface Parts {
  kit: Kit<GatewayConfig>;
  projects: Projects;
  tokens: Tokens;
  provisions: Provisions;
  runner: Runner;
  live: Live;
  audit: Audit;
}

/** A request that was let in. */
export interface AdmittedRequest {
  /** What is made is called so. It is the same when the request is repeated under its key, so nothing is made twice. */
  id: string;
  door: DoorName;
  actor: Actor | undefined;
  project: Project | undefined;
}

/** The same, as its use case has it. */
export interface Request<C extends AnyUseCase = AnyUseCase> extends AdmittedRequest {
  actor: C['permission'] extends 'public' ? undefined : Actor;
  project: C['scope'] extends 'project' ? Project : undefined;
}

/** What a follower is told; `id` is where it goes on after it was away. */
export interface Told {
  id?: string;
  event: string;
  data: unknown;
}

export interface UseCase<C extends AnyUseCase = AnyUseCase> {
  contract: C;
  /** Throws M2Error: one of the contract's errors, or one that any use case may end with. */
  run(parts: Parts, request: Request<C>, input: InputOfUseCase<C>): Promise<OutputOfUseCase<C>>;
  /** What happens from now on, until the signal. What cannot be followed is refused before anything is told. */
  follow?(
    parts: Parts,
    request: Request<C>,
    input: InputOfUseCase<C>,
    signal: AbortSignal,
  ): Promise<AsyncIterable<Told>>;
}

/** Pairs a use case's contract with what it does. */
export const implement = <C extends AnyUseCase>(
  contract: C,
  run: UseCase<C>['run'],
  follow?: UseCase<C>['follow'],
): UseCase<C> => ({ contract, run, ...(follow && { follow }) });
