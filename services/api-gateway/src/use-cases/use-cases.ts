import {
  type AnyUseCase,
  changeAccepted,
  checkInput,
  type imageTransfer,
  M2Error,
  type ReplyOf,
  type UseCaseName,
} from '@m2/contracts';
import { Runner } from '@m2/saga';
import { type Kit, KIT } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { type Admission, isAdmission } from '../access/access.js';
import { OpenAnswers } from '../access/open-answers.js';
import { Tokens } from '../access/tokens.js';
import type { GatewayConfig } from '../config.js';
import { Audit } from '../events/audit.js';
import { Live } from '../operations/live.js';
import { Projects } from '../projects/projects.js';
import { Provisions } from '../provisions/provisions.js';
import { Idempotency } from './idempotency.js';
import { implementations } from './index.js';
import type { AdmittedRequest, Parts, Told, UseCase } from './use-case.js';

/**
 * The way from a door to what is done. Every door goes it, so input is checked, repetitions are found and changes are put on record in the
 * same way, whatever the protocol.
 */
@Injectable()
export class UseCases {
  private readonly parts: Parts;

  constructor(
    @Inject(KIT) private readonly kit: Kit<GatewayConfig>,
    @Inject(Idempotency) private readonly idempotency: Idempotency,
    @Inject(OpenAnswers) private readonly openAnswers: OpenAnswers,
    @Inject(Projects) projects: Projects,
    @Inject(Tokens) tokens: Tokens,
    @Inject(Provisions) provisions: Provisions,
    @Inject(Runner) runner: Runner,
    @Inject(Live) live: Live,
    @Inject(Audit) audit: Audit,
  ) {
    this.parts = { kit, projects, tokens, provisions, runner, live, audit };
  }

  /**
   * Does what somebody was admitted to. `key` lets the same request be sent again: it is done once, and answered alike.
   * Throws M2Error: `request.invalid`, `idempotency.conflict`, or what the use case ends with.
   */
  async run(admission: Admission, given: unknown, key?: string): Promise<unknown> {
    const { implementation, input } = this.prepare(admission, given);
    const work = (id: string) => this.perform(implementation, requestOf(admission, id), input as never);
    const { actor, useCase, project } = admission;
    if (key === undefined || !actor || useCase.kind === 'query') return work(uuidv7());
    const asked = [project?.id ?? null, input];
    let begun: unknown;
    const { id, reply } = await this.idempotency.once(
      { token: actor.token, key, useCase, asked },
      async (id, isFirst) => {
        if (useCase.kind !== 'operation') return work(id);
        // The gateway that began it may have died before it could say so.
        if (isFirst || !(await this.parts.runner.store.find(id))) begun = await work(id);
        return undefined;
      },
    );
    return useCase.kind === 'operation' ? (begun ?? this.parts.runner.store.show(id)) : (reply ?? undefined);
  }

  /**
   * Tells what happens to something, from now on, until `over` aborts: the door does that when the client is gone, and we do when who asked
   * may not know any more. Throws as `run` does, before anything is told, and M2Error `request.too_many_streams`.
   */
  async follow(admission: Admission, given: unknown, over: AbortController): Promise<AsyncIterable<Told>> {
    const { implementation, input } = this.prepare(admission, given);
    if (!implementation.follow) throw new M2Error('request.invalid', 'This cannot be followed');
    this.openAnswers.begin(admission, 'stream', over);
    return implementation.follow(this.parts, requestOf(admission, uuidv7()) as never, input, over.signal);
  }

  /** The door of the service that has the bytes, for a transfer that lasts until `over` aborts, as with `follow`. */
  async transfer(admission: Admission, given: unknown, over: AbortController): Promise<ReplyOf<typeof imageTransfer>> {
    const door = (await this.run(admission, given)) as ReplyOf<typeof imageTransfer>;
    this.openAnswers.begin(admission, 'transfer', over);
    return door;
  }

  private prepare(admission: Admission, given: unknown) {
    if (!isAdmission(admission)) throw new M2Error('internal', 'Nobody was admitted');
    const implementation = implementations[admission.useCase.name as UseCaseName] as unknown as UseCase;
    return { implementation, input: checkInput(admission.useCase, given) };
  }

  private async perform(implementation: UseCase, request: AdmittedRequest, input: never): Promise<unknown> {
    if (implementation.contract.kind === 'change') await this.record(implementation.contract, request);
    return implementation.run(this.parts, request as never, input);
  }

  /** Who changes what, and through which door, is on record before it is done. An operation has its own events. */
  private record({ name }: AnyUseCase, { id, actor, door, project }: AdmittedRequest): Promise<void> {
    return this.kit.transact(async (_sql, emit) => {
      if (!actor) throw new M2Error('internal', 'Nobody changes something');
      const owner = project?.id ?? null;
      const data = { id, project: owner, useCase: name, door, by: actor.name, token: actor.token };
      emit(changeAccepted, data, { entity: id, project: owner });
    });
  }
}

const requestOf = ({ door, actor, project }: Admission, id: string): AdmittedRequest => ({ id, door, actor, project });
