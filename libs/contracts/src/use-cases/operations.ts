import { z } from 'zod';
import { id, name, nameOrId, page, pageOf, reason } from '../fields.js';
import { operation, operationKinds, operationStates, wayOut } from '../gateway.js';
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
  operationSkipPlan: useCase({
    kind: 'query',
    permission: 'operation.skip-step',
    summary: 'What would stay behind, and what may do harm, if a stuck step were left out',
    input: one.extend({ step: name.describe('The step that is stuck') }),
    output: wayOut,
    errors: ['operation.not_found', 'operation.not_resumable', 'operation.step_not_skippable'],
  }),
  operationSkipStep: useCase({
    kind: 'change',
    permission: 'operation.skip-step',
    summary: 'Leaves out a stuck step of an operation, and lets it go on; look at the plan first',
    input: one.extend({ step: name, reason }),
    output: operation,
    errors: ['operation.not_found', 'operation.not_resumable', 'operation.step_not_skippable'],
    example: {
      id: '01a203f9-fed9-7277-af30-c5f35401abca',
      step: 'power-off',
      reason: 'The BMC is dead; the node is out of the rack',
    },
  }),
  operationAbandonPlan: useCase({
    kind: 'query',
    permission: 'operation.abandon',
    summary: 'What would stay behind, and what may do harm, if an operation were abandoned',
    input: one,
    output: wayOut,
    errors: ['operation.not_found', 'operation.not_resumable'],
  }),
  operationAbandon: useCase({
    kind: 'change',
    permission: 'operation.abandon',
    summary: 'Ends a stuck operation as it is: nothing more is done or undone; look at the plan first',
    input: one.extend({ reason }),
    output: operation,
    errors: ['operation.not_found', 'operation.not_resumable'],
    example: { id: '01a203f9-fed9-7277-af30-c5f35401abca', reason: 'The rack was dismantled' },
  }),
});
