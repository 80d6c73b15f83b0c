import { fields } from '@m2/contracts';
import { baseConfig } from '@m2/service-kit';
import { z } from 'zod';

export const hilConfig = baseConfig.extend({
  /** Most commands wait for a BMC. */
  commandConcurrency: z.coerce.number().int().min(1).max(1000).default(72),
  /** Name of the one network that every node is cabled to. */
  flatNetwork: fields.name.default('flat'),
  /** Directory for ipmitool's files, for this process alone; absent: a temporary directory. */
  bmcDirectory: z.string().min(1).optional(),
  /** The most BMCs with a session at the same time; each BMC has one session at a time. */
  bmcConcurrency: z.coerce.number().int().min(1).max(1000).default(64),
});

export type HilConfig = z.infer<typeof hilConfig>;
