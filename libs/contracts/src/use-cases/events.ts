import { z } from 'zod';
import { nameOrId, page, pageOf } from '../fields.js';
import { auditEvent } from '../gateway.js';
import { ofCapability, useCase } from './use-case.js';

export const eventUseCases = ofCapability('events', {
  eventList: useCase({
    kind: 'query',
    permission: 'event.read',
    summary: 'What happened, oldest first; as a stream, what happens from now on (or from `cursor` on)',
    input: page.extend({
      project: nameOrId.optional().describe('Only of this project'),
      type: z
        .string()
        .max(100)
        .regex(/^[a-z.-]+\*?$/, 'must be a type, or its beginning and *')
        .optional()
        .describe('Only of this type: `image.disk.created`, or `image.*`'),
    }),
    output: pageOf(auditEvent),
    followed: true,
    errors: ['project.not_found'],
  }),
});
