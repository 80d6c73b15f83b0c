import { Consumes, type ReceivedEvent, type Sql } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { Audit } from './audit.js';

@Controller()
export class AuditConsumer {
  constructor(@Inject(Audit) private readonly audit: Audit) {}

  @Consumes({ durable: 'gateway-audit', of: 'all' })
  receive(events: ReceivedEvent[], sql: Sql): Promise<void> {
    return this.audit.receive(events, sql);
  }
}
