import { baseConfig } from '@m2/service-kit';
import { z } from 'zod';

const addresses = z
  .string()
  .min(1)
  .transform((value) => value.split(',').map((address) => address.trim()));

export const iscsiConfig = baseConfig
  .extend({
    /** Directory for sockets and records of the tgtd instances. */
    targetDirectory: z.string().min(1),
    /** Addresses of this machine that targets listen on, separated by commas. */
    portalAddresses: addresses.prefault('127.0.0.1'),
    /** The same portals as the nodes see them, in the same order; absent: as they are. */
    portalAdvertised: addresses.optional(),
    /** ceph.conf of the cluster that disks may be in; absent: disks are files. */
    cephConf: z.string().startsWith('/').optional(),
    /** The cephx user, without "client.", that looks after images and fetches the projects' keys. */
    cephUser: z.string().min(1).default('m2'),
    /** Name of this machine among those that export the same disks; unique. */
    portalHost: z
      .string()
      .regex(/^[A-Za-z0-9.-]{1,64}$/)
      .default('default'),
    portalPortBase: z.coerce.number().int().min(1).max(65_000).default(3260),
    /** Time between two comparisons of what the target has with what it should have. */
    reconcileSeconds: z.coerce.number().min(0.1).default(30),
  })
  .refine((config) => !config.portalAdvertised || config.portalAdvertised.length === config.portalAddresses.length, {
    path: ['portalAdvertised'],
    message: 'must name as many addresses as M2_PORTAL_ADDRESSES',
  });

export type IscsiConfig = z.infer<typeof iscsiConfig>;
