import { fields } from '@m2/contracts';
import { baseConfig, defaultLimits, listenAddress } from '@m2/service-kit';
import { z } from 'zod';

export const gatewayConfig = baseConfig.extend({
  listen: listenAddress.prefault('127.0.0.1:7400'),
  /** The first admin token; kept as a hash. Without it, only the tokens that are in the database work. */
  adminToken: z.string().min(32).optional(),
  /** The network that a provision's nic joins when the request names none. */
  network: fields.name.default('flat'),
  /** Operations that this replica works on at the same time; more wait in the database. One that only waits, as for a node, does not count. */
  concurrency: z.coerce.number().int().min(1).default(64),
  /** How many of these may be of one project, so that there is room for others. By default three quarters. */
  projectConcurrency: z.coerce.number().int().min(1).optional(),
  /** How long a provision waits for the node to phone home. Firmware is slow, and a lab's emulated one slower. */
  bootDeadlineSeconds: z.coerce.number().int().min(1).default(600),
  /** Days for which events are kept. By default 365 where `M2_RETENTION_DIRECTORY` is set, and else for ever. */
  auditDays: z.coerce.number().int().min(1).optional(),
  /** How many streams (events, operations) one token may follow at each replica at the same time. */
  streamsPerToken: z.coerce.number().int().min(1).default(1_000),
  /** On how many servers of a NATS cluster events are kept on their way: 1, 3 or 5. */
  eventReplicas: z.coerce
    .number()
    .refine((count) => [1, 3, 5].includes(count), 'must be 1, 3 or 5')
    .default(defaultLimits.replicas),
  /** How much of them is kept; the oldest go first. They are on their way only: what happened is in the database. */
  eventBytes: z.coerce
    .number()
    .int()
    .min(1024 * 1024)
    .default(defaultLimits.maxBytes),
  /** And for how long. */
  eventHours: z.coerce.number().int().min(1).default(defaultLimits.maxAgeHours),
  /** How long an upload or a download may stand still before it is ended. It may last as long as it moves. */
  transferIdleSeconds: z.coerce.number().positive().default(300),
});

export type GatewayConfig = z.infer<typeof gatewayConfig>;
