import { Runner, SagaRegistry } from '@m2/saga';
import { KIT, type Kit } from '@m2/service-kit';
import { Module } from '@nestjs/common';
import { APP_FILTER, APP_GUARD } from '@nestjs/core';
import { Access } from './access/access.js';
import { OpenAnswers } from './access/open-answers.js';
import { AUTHENTICATORS } from './access/authenticator.js';
import { BearerTokens } from './access/bearer-tokens.js';
import { Tokens } from './access/tokens.js';
import type { GatewayConfig } from './config.js';
import { ProblemFilter } from './doors/rest/problem-filter.js';
import { RestController } from './doors/rest/rest.controller.js';
import { RestGuard } from './doors/rest/rest.guard.js';
import { AuditConsumer } from './events/audit.consumer.js';
import { Audit } from './events/audit.js';
import { changeTeller, Live } from './operations/live.js';
import { Projects } from './projects/projects.js';
import { Provisions } from './provisions/provisions.js';
import { earlierSagas, sagas } from './sagas/index.js';
import { Idempotency } from './use-cases/idempotency.js';
import { UseCases } from './use-cases/use-cases.js';

@Module({
  controllers: [RestController, AuditConsumer],
  providers: [
    Tokens,
    BearerTokens,
    { provide: AUTHENTICATORS, useFactory: (bearer: BearerTokens) => [bearer], inject: [BearerTokens] },
    Projects,
    Access,
    OpenAnswers,
    {
      provide: Runner,
      useFactory: (kit: Kit<GatewayConfig>) =>
        new Runner(kit, {
          sagas: new SagaRegistry(sagas, earlierSagas),
          projects: 'projects',
          instance: kit.config.instance,
          concurrency: kit.config.concurrency,
          projectConcurrency: kit.config.projectConcurrency ?? Math.ceil((kit.config.concurrency * 3) / 4),
          changed: changeTeller(kit),
        }),
      inject: [KIT],
    },
    Live,
    Provisions,
    Audit,
    Idempotency,
    UseCases,
    { provide: APP_GUARD, useClass: RestGuard },
    { provide: APP_FILTER, useClass: ProblemFilter },
  ],
})
export class GatewayModule {}
