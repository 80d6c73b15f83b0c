import { z } from 'zod';
import { id, nameOrId, page, pageOf } from '../fields.js';
import { operation, operationKinds, operationStates } from '../gateway.js';
import { ofCapability, useCase } from './use-case.js';

const one = z.object({ id });

export const operationUseCases = ofCapability('operations', {
  operationList: useCase({
    kind: 'query',
    permission: 'operation.read',
    summary: 'The operations of the projects that the token may see, newest first',
    input: page.extend({
      project: nameOrId.optional().describe('Only of this project'),
      kind: z.enum(operationKinds).optional().describe('Only of this kind'),
      state: z.enum(operationStates).optional().describe('Only in this state'),
    }),
    output: pageOf(operation),
    errors: ['project.not_found'],
  }),
  operationShow: useCase({
    kind: 'query',
    permission: 'operation.read',
    summary: 'One operation with its steps; as a stream, again after each change until it ends',
    input: one,
    output: operation,
    followed: true,
    errors: ['operation.not_found'],
  }),
  operationCancel: useCase({
    kind: 'change',
    permission: 'operation.cancel',
    summary: 'Asks an operation to stop and undo what it did',
    input: one,
    output: operation,
    errors: ['operation.not_found', 'operation.not_cancellable'],
  }),
  operationResume: useCase({
    kind: 'change',
    permission: 'operation.resume',
    summary: 'Lets an operation that needs attention go on, when its cause is mended',
    input: one,
    output: operation,
    errors: ['operation.not_found', 'operation.not_resumable'],
  }),
});
