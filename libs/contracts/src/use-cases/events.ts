import { z } from 'zod';
import { events } from '../catalogue.js';
import { nameOrId, page, pageOf } from '../fields.js';
import { auditEvent } from '../gateway.js';
import { ofCapability, useCase } from './use-case.js';

/** Who misspelt a type would wait for ever for the first event. */
const isThere = (type: string) =>
  events.some((event) => (type.endsWith('*') ? event.type.startsWith(type.slice(0, -1)) : event.type === type));

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
        .regex(/^[a-z.-]+\*?$/, { error: 'must be a type, or its beginning and *', abort: true })
        .refine(isThere, 'is of no event; GET /v1/asyncapi.json has all types')
        .optional()
        .describe('Only of this type: `image.disk.created`, or `image.*`'),
    }),
    output: pageOf(auditEvent),
    followed: true,
    errors: ['project.not_found'],
  }),
});
