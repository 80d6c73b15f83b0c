import { z } from 'zod';
import { ofCapability, useCase } from './use-case.js';

const anyObject = z.record(z.string(), z.unknown());

export const descriptionUseCases = ofCapability('description', {
  openapi: useCase({
    kind: 'query',
    permission: 'public',
    summary: 'This API, as OpenAPI 3.1',
    output: anyObject,
  }),
  asyncapi: useCase({
    kind: 'query',
    permission: 'public',
    summary: 'The events and messages, as AsyncAPI 3.0',
    output: anyObject,
  }),
  health: useCase({
    kind: 'query',
    permission: 'public',
    summary: 'Whether the gateway lives',
    output: z.object({ status: z.literal('ok') }),
  }),
});
