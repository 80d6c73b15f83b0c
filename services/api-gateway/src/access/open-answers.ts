import { M2Error } from '@m2/contracts';
import { type Kit, KIT, meter, Periodic } from '@m2/service-kit';
import { Inject, Injectable, type OnModuleDestroy, type OnModuleInit } from '@nestjs/common';
import type { GatewayConfig } from '../config.js';
import { Access, type Admission } from './access.js';
import { accessChanged } from './access-changed.js';

/** Who lost a permission without a word (it expired, or the message was lost) is noticed after this time. */
const everyMs = 5_000;

interface OpenAnswer {
  admission: Admission;
  kind: 'stream' | 'transfer';
  over: AbortController;
}

/**
 * The answers of this process that last: what is followed, downloads, uploads. What is open ends when its permission does: `Access` decides
 * about it again, now and then, and at once when a token was revoked or a project deleted, at whatever replica.
 */
@Injectable()
export class OpenAnswers implements OnModuleInit, OnModuleDestroy {
  private readonly open = new Set<OpenAnswer>();
  private readonly checks: Periodic;
  private listening: { unsubscribe(): void } | undefined;

  constructor(
    @Inject(KIT) private readonly kit: Kit<GatewayConfig>,
    @Inject(Access) private readonly access: Access,
  ) {
    this.checks = new Periodic({
      everyMs,
      work: () => this.check(),
      onError: (err) => kit.log.warn({ err }, 'who follows could not be checked'),
    });
    meter()
      .createObservableGauge('m2_open_answers', { description: 'Streams, downloads and uploads that are open' })
      .addCallback((result) => {
        for (const kind of ['stream', 'transfer'] as const)
          result.observe([...this.open].filter((answer) => answer.kind === kind).length, { kind });
      });
  }

  onModuleInit(): void {
    this.checks.start();
    this.listening = this.kit.bus.connection.subscribe(accessChanged.subject, { callback: () => this.checks.wake() });
  }

  async onModuleDestroy(): Promise<void> {
    this.listening?.unsubscribe();
    await this.checks.stop();
  }

  get size(): number {
    return this.open.size;
  }

  /**
   * Puts an answer that lasts on the list, until `over` aborts. When it has to end, it aborts `over`; the reason is the M2Error that a new
   * request would get. Throws M2Error `request.too_many_streams`.
   */
  begin(admission: Admission, kind: OpenAnswer['kind'], over: AbortController): void {
    over.signal.throwIfAborted();
    if (kind === 'stream') this.refuseTooMany(admission);
    const answer: OpenAnswer = { admission, kind, over };
    this.open.add(answer);
    over.signal.addEventListener('abort', () => this.open.delete(answer), { once: true });
  }

  private refuseTooMany({ actor }: Admission): void {
    const { streamsPerToken } = this.kit.config;
    const isAlike = ({ kind, admission }: OpenAnswer) => kind === 'stream' && admission.actor?.token === actor?.token;
    if ([...this.open].filter(isAlike).length < streamsPerToken) return;
    throw new M2Error('request.too_many_streams', `The token follows ${streamsPerToken} streams already`);
  }

  private async check(): Promise<void> {
    // A thousand streams of one token are one question. One after the other: the database is there for others too.
    for (const group of Map.groupBy(this.open, ({ admission }) => questionOf(admission)).values())
      await this.checkAlike(group);
  }

  private async checkAlike(group: OpenAnswer[]): Promise<void> {
    try {
      await this.access.confirm(group[0]!.admission);
    } catch (error) {
      // A database that is away says nothing about anybody.
      if (!(error instanceof M2Error) || error.status >= 500) throw error;
      for (const { over } of group) over.abort(error);
    }
  }
}

const questionOf = ({ credentials, useCase, project }: Admission): string =>
  JSON.stringify([credentials, useCase.permission, useCase.scope, project?.id]);
