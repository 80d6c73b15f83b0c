import type { Expiring } from '@m2/service-kit';
import type { GatewayConfig } from './config.js';

const auditDays = 365;

/** What the gateway forgets. Events are the audit trail: nothing of it is lost unless somebody asked for that. */
export const gatewayExpiring = (
  config: Pick<GatewayConfig, 'retentionDays' | 'retentionDirectory' | 'auditDays'>,
): Expiring[] => {
  const { retentionDays: days } = config;
  const record = 'to_jsonb(r)';
  return [
    { table: 'provisions', since: 'ended_at', days, record },
    {
      table: 'operations',
      since: 'ended_at',
      days,
      // A provision that is there names the operation that made it.
      unless: 'EXISTS (SELECT FROM provisions p WHERE p.operation = r.id AND p.ended_at IS NULL)',
      record: `${record} || jsonb_build_object('steps',
        (SELECT jsonb_agg(to_jsonb(s) ORDER BY s.position) FROM operation_steps s WHERE s.operation = r.id))`,
    },
    {
      table: 'events',
      since: 'time',
      days: config.auditDays ?? (config.retentionDirectory === undefined ? undefined : auditDays),
      record,
    },
    { table: 'tokens', since: 'revoked_at', days },
    { table: 'idempotency_keys', since: 'created_at', days: 7 },
  ];
};
