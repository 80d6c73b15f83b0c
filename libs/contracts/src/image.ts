import { z } from 'zod';
import { bytes, errorValue, id, label, name, nameOrId, page, pageOf, sha256, text, time } from './fields.js';
import { command, event, query } from './message.js';

export const imageFormats = ['raw', 'qcow2', 'vmdk'] as const;

/** How far something long is: bytes done, and of how many where that is known. */
export const progress = z.object({ phase: label, done: bytes, total: bytes.nullable() });

const fileSource = z.object({ kind: z.literal('file'), path: text.min(1).max(4096) });
const urlSource = z.object({
  kind: z.literal('url'),
  url: text.max(4096).pipe(z.url({ protocol: /^https?$/ })),
});
/** A volume of the storage that M2 does not own, by the storage's name of it: `pool/namespace/image@snapshot`. */
const volumeSource = z.object({ kind: z.literal('volume'), volume: text.min(1).max(255) });
const uploadSource = z.object({ kind: z.literal('upload') });

/** Where an image comes from, as people say it. */
export const imageSource = z.discriminatedUnion('kind', [
  fileSource,
  urlSource,
  volumeSource,
  uploadSource,
  z.object({ kind: z.literal('image'), image: nameOrId, project: nameOrId.optional() }),
  z.object({ kind: z.literal('disk'), disk: nameOrId, tag: name.optional() }),
]);

/** The same with identifiers, as it is carried out. `project` is the owner, who was found to let this image be copied. */
export const storedSource = z.discriminatedUnion('kind', [
  fileSource,
  urlSource,
  volumeSource,
  uploadSource,
  z.object({ kind: z.literal('image'), image: id, project: id }),
  z.object({ kind: z.literal('disk'), disk: id, tag: id.optional() }),
]);
export type StoredSource = z.infer<typeof storedSource>;

/** What Foreman's image model knows of an image. */
export const imageMetadata = z.object({
  operatingSystem: text.max(255).nullable(),
  architecture: text.max(64).nullable(),
  defaultUser: text.max(64).nullable(),
  /** The image runs cloud-init or its like. */
  userData: z.boolean(),
});

/** `private`: the project's own; `shared`: with the projects that are listed; `public`: with all. */
export const visibilities = ['private', 'shared', 'public'] as const;

export const image = z.object({
  id,
  project: id,
  name,
  state: z.enum(['importing', 'ready', 'failed', 'deleting']),
  format: z.enum(imageFormats).nullable(),
  sizeBytes: bytes.nullable(),
  sha256: sha256.nullable(),
  visibility: z.enum(visibilities),
  /** Told to the project that owns the image, and to nobody else. */
  sharedWith: z.array(id).max(1000),
  metadata: imageMetadata,
  /** What it was copied from, where that is of M2. */
  parent: z.object({ kind: z.enum(['image', 'disk']), id }).nullable(),
  createdAt: time,
  progress: progress.nullable(),
  error: errorValue.nullable(),
});
export type Image = z.infer<typeof image>;

export const imageImport = command(
  'image.image.import',
  'Starts (or goes on with) the import of an image; the answer comes at once, `image.show` tells how far it is',
  z.object({
    imageId: id,
    project: id,
    name,
    source: storedSource,
    format: z.enum(imageFormats).optional(),
    sha256: sha256.optional(),
    metadata: imageMetadata.partial().optional(),
  }),
  image,
);

export const imageUpdate = command(
  'image.image.update',
  'Renames, shares, describes or moves an image',
  z.object({
    imageId: id,
    project: id,
    name: name.optional(),
    visibility: z.enum(visibilities).optional(),
    sharedWith: z.array(id).max(1000).optional(),
    metadata: imageMetadata.partial().optional(),
    toProject: id.optional(),
  }),
  image,
);

export const imageDelete = command(
  'image.image.delete',
  'Deletes an image that no disk was cloned from; one that is not there is fine',
  z.object({ imageId: id, project: id }),
  z.object({}),
);

/** A flat copy of an image, as a volume of the storage that is the caller's from then on. */
export const imageExport = z.object({
  id,
  project: id,
  image: id,
  volume: label,
  state: z.enum(['running', 'done', 'failed']),
  progress: progress.nullable(),
  error: errorValue.nullable(),
});
export type ImageExport = z.infer<typeof imageExport>;

export const imageExportStart = command(
  'image.image.export',
  'Starts (or goes on with) writing an image to a flat volume of the storage; `image.export-show` tells how far it is',
  z.object({ exportId: id, project: id, image: id, volume: text.min(1).max(255) }),
  imageExport,
);

export const imageExportCancel = command(
  'image.image.export-cancel',
  'Stops writing an image to a volume, and removes what was written; one that is done stays',
  z.object({ exportId: id, project: id }),
  z.object({}),
);

export const imageExportShow = query(
  'image.image.export-show',
  'How far the writing of an image to a volume is',
  z.object({ exportId: id, project: id }),
  imageExport,
);

export const imageShow = query(
  'image.image.show',
  'One image of a project, or one that others let it use',
  z.object({ project: id, image: nameOrId }),
  image,
);

export const imageList = query(
  'image.image.list',
  'The images that a project may use, by name: its own, those shared with it and the public ones',
  page.extend({ project: id, name: name.optional(), own: z.boolean().optional() }),
  pageOf(image),
);

/** What came from what, as far as the asking project may see it; parents come before their children. */
export const lineage = z
  .array(
    z.object({
      kind: z.enum(['image', 'disk', 'tag']),
      id,
      name,
      parent: id.nullable(),
      sizeBytes: bytes.nullable(),
      state: z.string().max(32),
    }),
  )
  .max(1000);
export type Lineage = z.infer<typeof lineage>;

export const imageTree = query(
  'image.image.tree',
  'What an image came from, and what was made from it',
  z.object({ project: id, image: nameOrId }),
  z.object({ items: lineage }),
);

/** A door that image-svc opens for one transfer; the gateway passes the bytes on. */
export const transfer = z.object({ url: z.url().max(2048), ticket: z.string().max(1024) });

export const imageTransfer = query(
  'image.image.transfer',
  'Opens a door through which an image is read (`download`) or sent (`upload`)',
  z.object({
    project: id,
    image: id,
    purpose: z.enum(['download', 'upload']),
    format: z.enum(['raw', 'qcow2']).optional(),
  }),
  transfer,
);

const imageRef = z.object({ id, project: id, name });
export const imageImported = event(
  'image.image.imported',
  'An image can be cloned now',
  imageRef.extend({ sizeBytes: bytes, sha256: sha256.nullable() }),
);
export const imageImportFailed = event(
  'image.image.import-failed',
  'An import ended without an image',
  imageRef.extend({ error: errorValue }),
);
export const imageUpdated = event(
  'image.image.updated',
  'An image was renamed, shared, described or moved',
  imageRef.extend({ visibility: z.enum(visibilities), sharedWith: z.array(id).max(1000) }),
);
export const imageExported = event(
  'image.image.exported',
  'A flat copy of an image is a volume of the storage',
  imageRef.extend({ volume: label }),
);
export const imageDeleted = event('image.image.deleted', 'An image is gone', imageRef);
