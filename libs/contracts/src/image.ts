import { z } from 'zod';
import { backingStore, bytes, errorValue, id, name, nameOrId, page, pageOf, sha256, text, time } from './fields.js';
import { command, event, query } from './message.js';

export const imageSource = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('file'), path: text.min(1).max(4096) }),
  z.object({ kind: z.literal('url'), url: text.max(4096).pipe(z.url({ protocol: /^https?$/ })) }),
]);

export const image = z.object({
  id,
  project: id,
  name,
  state: z.enum(['importing', 'ready', 'failed', 'deleting']),
  format: z.enum(['raw', 'qcow2']).nullable(),
  sizeBytes: bytes.nullable(),
  sha256: sha256.nullable(),
  createdAt: time,
  /** While it is imported: bytes done, and of how many where the source says so. */
  progress: z.object({ phase: z.enum(['fetch', 'store']), done: bytes, total: bytes.nullable() }).nullable(),
  error: errorValue.nullable(),
});
export type Image = z.infer<typeof image>;

export const disk = z.object({
  id,
  project: id,
  name,
  state: z.enum(['creating', 'ready', 'deleting']),
  image: id,
  /** The storage's name of it: `<uid>img<n>`, never used again. */
  volume: z.string(),
  sizeBytes: bytes,
  /** The provision that holds it, and so keeps everybody else away from it. */
  holder: id.nullable(),
  createdAt: time,
});
export type Disk = z.infer<typeof disk>;

export const imageImport = command(
  'image.image.import',
  'Starts (or goes on with) the import of an image; the answer comes at once, `image.show` tells how far it is',
  z.object({
    imageId: id,
    project: id,
    name,
    source: imageSource,
    format: z.enum(['raw', 'qcow2']).optional(),
    sha256: sha256.optional(),
  }),
  image,
);

export const imageDelete = command(
  'image.image.delete',
  'Deletes an image that no disk was cloned from; one that is not there is fine',
  z.object({ imageId: id, project: id }),
  z.object({}),
);

export const imageShow = query('image.image.show', 'One image', z.object({ project: id, image: nameOrId }), image);

export const imageList = query(
  'image.image.list',
  'The images of a project, by name',
  page.extend({ project: id, name: name.optional() }),
  pageOf(image),
);

export const diskCreate = command(
  'image.disk.create',
  'Clones an image copy-on-write',
  z.object({ diskId: id, project: id, name, image: id, sizeBytes: bytes.optional() }),
  disk,
);

export const diskDelete = command(
  'image.disk.delete',
  'Deletes a disk that nobody holds; one that is not there is fine',
  z.object({ diskId: id, project: id }),
  z.object({}),
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
  'The disks of a project, by name',
  page.extend({ project: id, name: name.optional() }),
  pageOf(disk),
);

const imageRef = z.object({ id, project: id, name });
export const imageImported = event(
  'image.image.imported',
  'An image can be cloned now',
  imageRef.extend({ sizeBytes: bytes, sha256 }),
);
export const imageImportFailed = event(
  'image.image.import-failed',
  'An import ended without an image',
  imageRef.extend({ error: errorValue }),
);
export const imageDeleted = event('image.image.deleted', 'An image is gone', imageRef);
export const diskCreated = event(
  'image.disk.created',
  'A disk was cloned',
  imageRef.extend({ image: id, volume: z.string(), sizeBytes: bytes }),
);
export const diskDeleted = event(
  'image.disk.deleted',
  'A disk and its data are gone',
  imageRef.extend({ volume: z.string() }),
);
export const diskAttached = event('image.disk.attached', 'A provision holds a disk', imageRef.extend({ holder: id }));
export const diskDetached = event(
  'image.disk.detached',
  'A provision let a disk go; its data is kept',
  imageRef.extend({ holder: id }),
);
export const diskReattached = event(
  'image.disk.reattached',
  'The path of an attached disk was lost and is back: targets must open it again',
  imageRef,
);
