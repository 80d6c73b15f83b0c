import { z } from 'zod';
import { bytes, id, label, page, pageOf, sentence, time } from './fields.js';
import { progress } from './image.js';
import { command, event, query } from './message.js';

/** `null`: no limit. */
export const quotaLimits = z.object({
  /** Of images and disks, those in the trash included, at the sizes that nodes see. */
  bytes: bytes.nullable(),
  disks: z.int().nonnegative().nullable(),
  images: z.int().nonnegative().nullable(),
});

export const quota = z.object({
  limits: quotaLimits,
  used: z.object({ bytes, disks: z.int(), images: z.int() }),
});
export type Quota = z.infer<typeof quota>;

export const quotaSet = command(
  'image.quota.set',
  'Limits what a project may store; what it has already stays, also above the limit',
  z.object({ project: id, limits: quotaLimits }),
  quota,
);

export const quotaShow = query(
  'image.quota.show',
  'What a project may store, and what it does store',
  z.object({ project: id }),
  quota,
);

export const findingKinds = [
  /** The storage has a volume that no image and no disk explains. */
  'volume_without_owner',
  /** An image or a disk is on record, and its volume is not there. */
  'volume_missing',
  /** An interrupted call left a half-made volume. */
  'volume_partial',
  /** A tag of a disk is in the storage and not on record. */
  'tag_without_owner',
  /** A tag is on record and not in the storage. */
  'tag_missing',
] as const;

export const finding = z.object({
  kind: z.enum(findingKinds),
  /** The storage's name of what it is about. */
  volume: label,
  tag: label.nullable(),
  project: id.nullable(),
  explanation: sentence,
  /** What a repair would do; null: a person has to decide. */
  repair: label.nullable(),
  firstSeenAt: time,
  /** When its grace time is over: a repair leaves it alone before. */
  repairableAt: time.nullable(),
});
export type Finding = z.infer<typeof finding>;

export const storageCheck = query(
  'image.storage.check',
  'Compares the storage with what is on record, and explains each difference',
  page,
  pageOf(finding),
);

/** A repair takes some at a time, and tells of some of what is left; with `more`, there is more of either. */
export const repairsAtOnce = 20;
export const storageRepairs = z.object({
  repaired: z.array(finding).max(repairsAtOnce),
  left: z.array(finding).max(repairsAtOnce),
  more: z.boolean().default(false),
});

export const storageRepair = command(
  'image.storage.repair',
  'Repairs differences whose grace time is over, some at a time',
  z.object({}),
  storageRepairs,
);

/** A volume that was removed for good, and whose data still takes space. */
export const freeing = z.object({
  /** The storage's own identifier of it: it has no name any more. */
  id: label,
  /** The name that it had. */
  volume: label,
  /** Of disks, where the storage separates projects. */
  project: id.nullable(),
  /** In the storage's own units. null: it waits for its turn, or for what was cloned from it. All its data is there. */
  progress: progress.nullable(),
});
export type Freeing = z.infer<typeof freeing>;

export const storageFreeing = query(
  'image.storage.freeing',
  'Removed volumes whose space is not free yet, and how far that is',
  page,
  pageOf(freeing),
);

export const storageRepaired = event(
  'image.storage.repaired',
  'Something in the storage that nobody owned was removed',
  z.object({ kind: z.enum(findingKinds), volume: label, tag: label.nullable() }),
);
