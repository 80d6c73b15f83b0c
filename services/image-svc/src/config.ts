import { baseConfig } from '@m2/service-kit';
import { z } from 'zod';

const list = (separator: string) =>
  z.string().transform((value) =>
    value
      .split(separator)
      .map((item) => item.trim())
      .filter((item) => item !== ''),
  );

export const imageConfig = baseConfig.extend({
  storageDirectory: z.string().min(1),
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
});

export type ImageConfig = z.infer<typeof imageConfig>;
