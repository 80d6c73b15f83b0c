import { fields } from '@m2/contracts';
import { baseConfig, listenAddress } from '@m2/service-kit';
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
  /** How long an upload or a download may stand still before it is ended. It may last as long as it moves. */
  transferIdleSeconds: z.coerce.number().positive().default(300),
});

export type GatewayConfig = z.infer<typeof gatewayConfig>;
