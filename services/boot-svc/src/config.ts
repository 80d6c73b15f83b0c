import { baseConfig, listenAddress } from '@m2/service-kit';
import { z } from 'zod';

export const bootConfiguration = baseConfig
  .extend({
    /** Where nodes fetch their scripts and phone home. */
    bootListen: listenAddress.prefault('127.0.0.1:7401'),
    /** The same, as the nodes see it: an origin without a path. */
    bootUrl: z
      .url({ protocol: /^http$/ })
      .transform((value) => new URL(value).origin)
      .prefault('http://127.0.0.1:7401'),
    /** Leases, DHCP hosts and boot files. */
    bootDirectory: z.string().min(1),
    /** The interface of a network that is ours: DHCP and TFTP are served on it. */
    dhcpInterface: z.string().optional(),
    /** First and last address to give out: `10.1.0.50,10.1.0.99`. */
    dhcpRange: z.string().optional(),
  })
  .refine((config) => !config.dhcpInterface === !config.dhcpRange, {
    path: ['dhcpRange'],
    message: 'goes together with M2_DHCP_INTERFACE',
  });

export type BootConfiguration = z.infer<typeof bootConfiguration>;
