import { z } from 'zod';
import { id, name, nameOrId, page, pageOf } from '../fields.js';
import { roles, token } from '../gateway.js';
import { ofCapability, useCase } from './use-case.js';

export const whoami = z.object({ token: id, name: z.string(), role: z.enum(roles), project: id.nullable() });

export const accessUseCases = ofCapability('access', {
  whoami: useCase({ kind: 'query', permission: 'self.read', summary: 'Whose token this is', output: whoami }),
  tokenCreate: useCase({
    kind: 'change',
    permission: 'token.create',
    summary: 'Makes a token; its value is in this answer and nowhere else. A member token belongs to a project',
    input: z
      .object({ name, role: z.enum(roles), project: nameOrId.optional() })
      .refine((token) => token.role !== 'member' || token.project !== undefined, 'a member token needs a project')
      // Nodes and projects belong to no project: who manages them is not bound to one.
      .refine(
        (token) => !['admin', 'operator'].includes(token.role) || token.project === undefined,
        'an admin or operator token has no project',
      ),
    output: token.extend({ value: z.string() }),
    errors: ['project.not_found'],
    example: { name: 'ci', role: 'operator' },
  }),
  tokenList: useCase({
    kind: 'query',
    permission: 'token.read',
    summary: 'The tokens, without their values',
    input: page,
    output: pageOf(token),
  }),
  tokenRevoke: useCase({
    kind: 'change',
    permission: 'token.revoke',
    summary: 'Makes a token void',
    input: z.object({ id }),
    errors: ['token.not_found'],
  }),
});
