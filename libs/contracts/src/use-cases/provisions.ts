import { z } from 'zod';
import { id, name, nameOrId, page, pageOf } from '../fields.js';
import { operation, provision } from '../gateway.js';
import { ofCapability, useCase } from './use-case.js';

export const provisionRequest = z
  .object({
    node: nameOrId,
    nic: name.optional(),
    image: nameOrId.optional(),
    disk: nameOrId.optional(),
    /** Name of the disk that is cloned from `image`; absent: made of the node's name and a number. */
    diskName: name.optional(),
    network: name.optional(),
    waitFor: z.enum(['ready', 'booted']).default('booted'),
  })
  .refine(({ image, disk }) => (image === undefined) !== (disk === undefined), 'give either image or disk')
  .refine(({ diskName, image }) => diskName === undefined || image !== undefined, 'diskName goes with image');

export const provisionUseCases = ofCapability('provisions', {
  provisionList: useCase({
    kind: 'query',
    scope: 'project',
    permission: 'provision.read',
    summary: 'The provisions of a project, newest first; those that ended only with all=true',
    input: page.extend({ all: z.boolean().default(false).describe('Those that ended too') }),
    output: pageOf(provision),
  }),
  provisionCreate: useCase({
    kind: 'operation',
    scope: 'project',
    permission: 'provision.create',
    summary: 'Boots a node from a clone of an image, or from a disk that waits',
    input: provisionRequest,
    output: operation,
    errors: [
      'node.not_found',
      'node.busy',
      'node.broken',
      'nic.not_found',
      'image.not_found',
      'image.not_ready',
      'disk.not_found',
      'disk.exists',
      'disk.in_use',
      'disk.not_ready',
    ],
    example: { node: 'node-1', image: 'debian-12', diskName: 'web-1' },
  }),
  provisionShow: useCase({
    kind: 'query',
    scope: 'project',
    permission: 'provision.read',
    summary: 'One provision',
    input: z.object({ id }),
    output: provision,
    errors: ['provision.not_found'],
  }),
  provisionDelete: useCase({
    kind: 'operation',
    scope: 'project',
    permission: 'provision.delete',
    summary: 'Powers the node off and takes everything back; the disk is kept unless disk=delete',
    input: z.object({ id, disk: z.enum(['keep', 'delete']).default('keep').describe('What becomes of the disk') }),
    output: operation,
    errors: ['provision.not_found', 'provision.ending', 'tag.in_use'],
  }),
});
