import { z } from 'zod';
import { name, nameOrId, page, pageOf, sha256, text } from '../fields.js';
import { operation } from '../gateway.js';
import { image, imageFormats, imageMetadata, imageSource, lineage, transfer, visibilities } from '../image.js';
import { ofCapability, useCase } from './use-case.js';

const one = z.object({ image: nameOrId });
const isSaid = (value: unknown) => value !== undefined;

export const imageUseCases = ofCapability('images', {
  imageList: useCase({
    kind: 'query',
    scope: 'project',
    permission: 'image.read',
    summary: 'The images that a project may use, by name: its own, those shared with it and the public ones',
    input: page.extend({ own: z.boolean().default(false).describe('Only images of the project itself') }),
    output: pageOf(image),
  }),
  imageImport: useCase({
    kind: 'operation',
    scope: 'project',
    permission: 'image.import',
    summary:
      'Makes an image from a file of the server, a URL, an upload, a volume of the storage, another image (a copy) or a disk (a snapshot)',
    input: z.object({
      name,
      source: imageSource,
      format: z.enum(imageFormats).optional(),
      sha256: sha256.optional(),
      metadata: imageMetadata.partial().optional(),
    }),
    output: operation,
    errors: [
      'image.exists',
      'image.not_found',
      'image.not_ready',
      'disk.not_found',
      'tag.not_found',
      'quota.exceeded',
      'disk.not_ready',
      'project.not_found',
    ],
    example: { name: 'debian-12', source: { kind: 'url', url: 'https://images.example.org/debian-12.qcow2' } },
  }),
  imageShow: useCase({
    kind: 'query',
    scope: 'project',
    permission: 'image.read',
    summary: 'One image',
    input: one,
    output: image,
    errors: ['image.not_found', 'image.ambiguous'],
  }),
  imageTree: useCase({
    kind: 'query',
    scope: 'project',
    permission: 'image.read',
    summary: 'What an image came from, and what was made from it',
    input: one,
    output: z.object({ items: lineage }),
    errors: ['image.not_found', 'image.ambiguous'],
  }),
  imageUpdate: useCase({
    kind: 'operation',
    scope: 'project',
    permission: 'image.update',
    summary: 'Renames, shares, describes or moves an image; public ones are made by operators, who also move',
    input: one
      .extend({
        name: name.optional(),
        visibility: z.enum(visibilities).optional(),
        sharedWith: z.array(nameOrId).max(1000).optional(),
        metadata: imageMetadata.partial().optional(),
        /** The project that takes it over. */
        project: nameOrId.optional(),
      })
      .refine(({ image: _, ...changes }) => Object.values(changes).some(isSaid), 'say what is to be changed'),
    output: operation,
    errors: ['image.not_found', 'image.exists', 'project.not_found', 'quota.exceeded'],
    example: { image: 'debian-12', visibility: 'shared', sharedWith: ['db'] },
  }),
  imageExport: useCase({
    kind: 'operation',
    scope: 'project',
    permission: 'image.export',
    summary: 'Writes an image to a flat volume of the storage, which M2 does not own from then on',
    input: one.extend({ volume: text.min(1).max(255) }),
    output: operation,
    errors: ['image.not_found', 'image.not_ready', 'volume.exists', 'volume.forbidden', 'storage.unsupported'],
    example: { image: 'debian-12', volume: 'vms/debian-12' },
  }),
  imageDelete: useCase({
    kind: 'operation',
    scope: 'project',
    permission: 'image.delete',
    summary: 'Deletes an image that no disk depends on',
    input: one,
    output: operation,
    errors: ['image.not_found', 'image.in_use'],
  }),
  imageContent: useCase({
    kind: 'query',
    scope: 'project',
    permission: 'image.read',
    summary: 'The bytes of an image; raw ones may be asked for in ranges',
    input: one.extend({ format: z.enum(['raw', 'qcow2']).default('raw').describe('The format of the bytes') }),
    output: transfer,
    errors: ['image.not_found', 'image.not_ready'],
  }),
  imageUpload: useCase({
    // What changes is the image, by its import; this is the way for the bytes.
    kind: 'query',
    scope: 'project',
    permission: 'image.import',
    summary: 'Sends the bytes of an image that waits for them',
    input: one,
    output: transfer,
    errors: ['image.not_found', 'image.not_waiting', 'image.too_large'],
  }),
});
