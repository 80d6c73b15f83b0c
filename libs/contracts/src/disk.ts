import { z } from 'zod';
import { backingStore, bytes, errorValue, id, label, name, nameOrId, page, pageOf, time } from './fields.js';
import { progress, transfer } from './image.js';
import { command, event, query } from './message.js';

export const disk = z.object({
  id,
  project: id,
  name,
  /** `trashed`: deleted, and can be restored for a while. */
  state: z.enum(['creating', 'ready', 'deleting', 'trashed']),
  /** The golden image that it still depends on; null when it was made flat. */
  image: id.nullable(),
  /** The tag of another disk that it was forked from, and still depends on. */
  fork: z.object({ disk: id, tag: id }).nullable(),
  /** How many clones of clones lie between it and something that depends on nothing. */
  depth: z.int().nonnegative(),
  /** The storage's name of it: `<uid>img<n>`, never used again. */
  volume: label,
  sizeBytes: bytes,
  /** The provision that holds it, and so keeps everybody else away from it. */
  holder: id.nullable(),
  /** While it is made flat in the background; `error` says why that ended without success. */
  flattening: z.object({ progress: progress.nullable(), error: errorValue.nullable() }).nullable(),
  createdAt: time,
  trashedAt: time.nullable(),
});
export type Disk = z.infer<typeof disk>;

/** A disk as it was at one moment. */
export const tag = z.object({
  id,
  disk: id,
  name,
  sizeBytes: bytes,
  /** Made for a fork, and gone with the last one. */
  automatic: z.boolean(),
  createdAt: time,
});
export type Tag = z.infer<typeof tag>;

/** What a disk is cloned from. A disk without a tag is tagged for it at that moment. */
export const diskOrigin = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('image'), image: id }),
  z.object({ kind: z.literal('disk'), disk: id, tag: id.optional() }),
]);

export const diskCreate = command(
  'image.disk.create',
  'Clones an image, a disk or a tag of a disk, copy-on-write',
  z.object({ diskId: id, project: id, name, from: diskOrigin, sizeBytes: bytes.optional() }),
  disk,
);

export const diskUpdate = command(
  'image.disk.update',
  'Renames a disk, or makes one larger that nobody holds',
  z.object({ diskId: id, project: id, name: name.optional(), sizeBytes: bytes.optional() }),
  disk,
);

export const diskTag = command(
  'image.disk.tag',
  'Keeps a disk as it is at this moment, also while a node uses it',
  z.object({ tagId: id, diskId: id, project: id, name }),
  tag,
);

export const diskUntag = command(
  'image.disk.untag',
  'Forgets a tag that nothing was made from; one that is not there is fine',
  z.object({ tagId: id, diskId: id, project: id }),
  z.object({}),
);

export const diskRollback = command(
  'image.disk.rollback',
  'Puts a disk that nobody holds back to what it was when it was tagged; its tags stay',
  z.object({ diskId: id, project: id, tag: id }),
  disk,
);

export const diskFlatten = command(
  'image.disk.flatten',
  'Starts (or goes on with) making a disk independent of its image; the answer comes at once, `disk.show` tells how far it is',
  z.object({ diskId: id, project: id }),
  disk,
);

export const diskDelete = command(
  'image.disk.delete',
  'Puts a disk that nobody holds into the trash, or removes it and its data for good (`purge`); one that is not there is fine',
  z.object({ diskId: id, project: id, purge: z.boolean() }),
  z.object({}),
);

export const diskRestore = command(
  'image.disk.restore',
  'Takes a disk out of the trash, under another name where its own was taken meanwhile',
  z.object({ diskId: id, project: id, name: name.optional() }),
  disk,
);

export const diskAttach = command(
  'image.disk.attach',
  'Claims a disk for one provision and opens it for an iSCSI target; refused while another provision holds it',
  z.object({ diskId: id, project: id, holder: id }),
  z.object({ disk, backing: backingStore }),
);

export const diskDetach = command(
  'image.disk.detach',
  'Closes a disk and gives the claim back; a claim that is not there is fine',
  z.object({ diskId: id, project: id, holder: id }),
  z.object({}),
);

export const diskShow = query('image.disk.show', 'One disk', z.object({ project: id, disk: nameOrId }), disk);

export const diskList = query(
  'image.disk.list',
  'The disks of a project, by name; those in the trash only with `trashed`',
  page.extend({ project: id, name: name.optional(), trashed: z.boolean().optional() }),
  pageOf(disk),
);

export const diskTags = query(
  'image.disk.tags',
  'The tags of a disk, by name',
  page.extend({ project: id, disk: id, name: name.optional() }),
  pageOf(tag),
);

export const diskUsers = query(
  'image.disk.users',
  'What was made from the tags of a disk, in words, at most five: as long as there is any, the disk cannot be deleted',
  z.object({ project: id, disk: id }),
  z.object({ items: z.array(label).max(5) }),
);

export const diskTransfer = query(
  'image.disk.transfer',
  'Opens a door through which a disk that nobody holds, or a tag of it, is read: whole, or what changed since another tag',
  z.object({
    project: id,
    disk: id,
    tag: id.optional(),
    since: id.optional(),
    format: z.enum(['raw', 'qcow2', 'rbd-diff']).optional(),
  }),
  transfer,
);

const diskRef = z.object({ id, project: id, name });
export const diskCreated = event(
  'image.disk.created',
  'A disk was cloned',
  diskRef.extend({ from: diskOrigin, volume: label, sizeBytes: bytes }),
);
export const diskUpdated = event(
  'image.disk.updated',
  'A disk was renamed or made larger',
  diskRef.extend({ sizeBytes: bytes }),
);
export const diskTagged = event('image.disk.tagged', 'A disk was tagged', diskRef.extend({ tag: id, tagName: name }));
export const diskUntagged = event('image.disk.untagged', 'A tag is gone', diskRef.extend({ tag: id, tagName: name }));
export const diskRolledBack = event(
  'image.disk.rolled-back',
  'A disk is what it was when it was tagged',
  diskRef.extend({ tag: id, tagName: name, volume: label }),
);
export const diskFlattened = event('image.disk.flattened', 'A disk depends on no image any more', diskRef);
export const diskTrashed = event('image.disk.trashed', 'A disk was deleted, and can be restored for a while', diskRef);
export const diskRestored = event('image.disk.restored', 'A disk is back from the trash', diskRef);
export const diskDeleted = event(
  'image.disk.deleted',
  'A disk and its data are gone',
  diskRef.extend({ volume: label }),
);
export const diskAttached = event('image.disk.attached', 'A provision holds a disk', diskRef.extend({ holder: id }));
export const diskDetached = event(
  'image.disk.detached',
  'A provision let a disk go; its data is kept',
  diskRef.extend({ holder: id }),
);
export const diskReattached = event(
  'image.disk.reattached',
  'The path of an attached disk was lost and is back: targets must open it again',
  diskRef,
);
