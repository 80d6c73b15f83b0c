import { baseConfig, listenAddress } from '@m2/service-kit';
import { z } from 'zod';

const list = (separator: string) =>
  z.string().transform((value) =>
    value
      .split(separator)
      .map((item) => item.trim())
      .filter((item) => item !== ''),
  );

export const imageConfig = baseConfig.extend({
  /** The storage backend that keeps the volumes. */
  storage: z.enum(['file', 'rbd', 'zfs']).default('file'),
  /** Directory for files of this service: volumes of the file backend, images that are being imported. */
  storageDirectory: z.string().min(1),
  /** For RBD: the cluster's configuration. */
  cephConf: z.string().default('/etc/ceph/ceph.conf'),
  /** For RBD: the cephx user, without `client.`; the cluster's configuration names its keyring. */
  cephUser: z.string().default('m2'),
  /** For RBD: the pool of golden images. */
  rbdImagePool: z.string().default('m2-images'),
  /** For RBD: the pool of disks, with a namespace for each project. */
  rbdDiskPool: z.string().default('m2-disks'),
  /** For ZFS: the dataset below which all volumes are. */
  zfsDataset: z.string().optional(),
  /** Pools, namespaces or datasets whose volumes tenants may import from and export to, separated by commas; none: they may not. */
  foreignVolumes: list(',').prefault(''),
  /** Directories of this machine that images may be imported from, separated by colons; none: no local imports. */
  importDirectories: list(':').prefault(''),
  /** Hosts, domains (`*.example.org`) and networks (CIDR) that images may be fetched from, separated by commas. */
  importHosts: list(',').prefault(''),
  /** Bytes that an image may have, fetched and unpacked. */
  maxImageBytes: z.coerce
    .number()
    .int()
    .positive()
    .default(2 ** 41),
  /** Imports that run at the same time; more wait. */
  importConcurrency: z.coerce.number().int().min(1).max(16).default(2),
  /** A disk with more clones than this between it and its image is made flat in the background; twice as many are refused. */
  maxCloneDepth: z.coerce.number().int().min(1).max(100).default(8),
  /** The most tags that one disk may have. */
  maxTags: z.coerce.number().int().min(1).max(500).default(32),
  /** How long a deleted disk can be restored. */
  trashHours: z.coerce.number().min(0).default(24),
  /** How long unknown volumes in the storage are left alone, because a command may still be creating them. */
  orphanGraceSeconds: z.coerce.number().min(0).default(3_600),
  /** Address of the HTTP server for uploads and downloads; only the gateway uses it. */
  transferListen: listenAddress.prefault('127.0.0.1:0'),
  /** The URL of that server as the gateway reaches it, `http://host:port`; absent: made from the address. */
  transferAdvertised: z.url({ protocol: /^http$/ }).optional(),
});

export type ImageConfig = z.infer<typeof imageConfig>;
