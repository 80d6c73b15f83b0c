import { z } from 'zod';
import { disk, tag } from '../disk.js';
import { bytes, name, nameOrId, page, pageOf } from '../fields.js';
import { operation } from '../gateway.js';
import { transfer } from '../image.js';
import { ofCapability, useCase } from './use-case.js';

const one = z.object({ disk: nameOrId });

export const diskUseCases = ofCapability('disks', {
  diskList: useCase({
    kind: 'query',
    scope: 'project',
    permission: 'disk.read',
    summary: 'The disks of a project, by name; trashed=true: those in the trash',
    input: page.extend({ trashed: z.boolean().default(false).describe('Those in the trash instead') }),
    output: pageOf(disk),
  }),
  diskCreate: useCase({
    kind: 'operation',
    scope: 'project',
    permission: 'disk.create',
    summary: 'Clones an image, a disk or a tag of a disk; sizeBytes may make the clone larger',
    input: z
      .object({
        name,
        image: nameOrId.optional(),
        disk: nameOrId.optional(),
        tag: name.optional(),
        sizeBytes: bytes.optional(),
      })
      .refine(({ image, disk }) => (image === undefined) !== (disk === undefined), 'give either image or disk')
      .refine(({ tag, disk }) => tag === undefined || disk !== undefined, 'tag goes with disk'),
    output: operation,
    errors: [
      'disk.exists',
      'disk.too_small',
      'disk.too_deep',
      'image.not_found',
      'image.not_ready',
      'disk.not_found',
      'tag.not_found',
      'quota.exceeded',
      'disk.not_ready',
    ],
    example: { name: 'web-1', image: 'debian-12' },
  }),
  diskShow: useCase({
    kind: 'query',
    scope: 'project',
    permission: 'disk.read',
    summary: 'One disk',
    input: one,
    output: disk,
    errors: ['disk.not_found'],
  }),
  diskUpdate: useCase({
    kind: 'operation',
    scope: 'project',
    permission: 'disk.update',
    summary: 'Renames a disk, or makes one larger that no node uses',
    input: one
      .extend({ name: name.optional(), sizeBytes: bytes.optional() })
      .refine(({ name, sizeBytes }) => name !== undefined || sizeBytes !== undefined, 'say what is to be changed'),
    output: operation,
    errors: ['disk.not_found', 'disk.exists', 'disk.in_use', 'disk.too_small', 'quota.exceeded', 'disk.not_ready'],
    example: { disk: 'web-1', name: 'web-old' },
  }),
  diskDelete: useCase({
    kind: 'operation',
    scope: 'project',
    permission: 'disk.delete',
    summary:
      'Puts a disk into the trash, where it can be restored from for a while; purge=true: removes it and its data at once',
    input: one.extend({ purge: z.boolean().default(false).describe('At once and for good, not into the trash') }),
    output: operation,
    errors: ['disk.not_found', 'disk.in_use', 'tag.in_use'],
  }),
  diskRestore: useCase({
    kind: 'operation',
    scope: 'project',
    permission: 'disk.restore',
    summary: 'Takes a disk out of the trash',
    input: one.extend({ name: name.optional() }),
    output: operation,
    errors: ['disk.not_found', 'disk.exists', 'disk.not_ready'],
    example: { disk: 'web-1', name: 'web-1-restored' },
  }),
  diskFlatten: useCase({
    kind: 'operation',
    scope: 'project',
    permission: 'disk.flatten',
    summary: 'Makes a disk independent of what it was cloned from',
    input: one,
    output: operation,
    errors: ['disk.not_found', 'disk.not_ready'],
  }),
  diskTags: useCase({
    kind: 'query',
    scope: 'project',
    permission: 'disk.read',
    summary: 'The tags of a disk, by name',
    input: page.extend(one.shape),
    output: pageOf(tag),
    errors: ['disk.not_found'],
  }),
  diskTag: useCase({
    kind: 'operation',
    scope: 'project',
    permission: 'disk.tag',
    summary: 'Keeps a disk as it is at this moment, also while a node uses it',
    input: one.extend({ name }),
    output: operation,
    errors: ['disk.not_found', 'tag.exists', 'disk.too_many_tags', 'disk.not_ready'],
    example: { disk: 'web-1', name: 'before-upgrade' },
  }),
  diskUntag: useCase({
    kind: 'operation',
    scope: 'project',
    permission: 'disk.untag',
    summary: 'Forgets a tag that nothing was made from',
    input: one.extend({ tag: nameOrId }),
    output: operation,
    errors: ['disk.not_found', 'tag.not_found', 'tag.in_use', 'disk.not_ready'],
  }),
  diskRollback: useCase({
    kind: 'operation',
    scope: 'project',
    permission: 'disk.rollback',
    summary: 'Puts a disk that no node uses back to what it was when it was tagged',
    input: one.extend({ tag: name }),
    output: operation,
    errors: ['disk.not_found', 'tag.not_found', 'disk.in_use', 'disk.not_ready'],
    example: { disk: 'web-1', tag: 'before-upgrade' },
  }),
  diskContent: useCase({
    kind: 'query',
    scope: 'project',
    permission: 'disk.read',
    summary: 'The bytes of a tag, or of a disk that no node uses; with `since`, what changed after another tag',
    input: one
      .extend({
        format: z.enum(['raw', 'qcow2', 'rbd-diff']).default('raw').describe('The format of the bytes'),
        tag: name.optional().describe('The disk as it was tagged'),
        since: name.optional().describe('Only what changed after this tag'),
      })
      .refine(({ since, format }) => since === undefined || format === 'rbd-diff', 'since goes with format=rbd-diff'),
    output: transfer,
    errors: ['disk.not_found', 'tag.not_found', 'disk.in_use', 'disk.not_ready'],
  }),
});
