import { z } from 'zod';
import { name, page, pageOf } from '../fields.js';
import { project } from '../gateway.js';
import { ofCapability, useCase } from './use-case.js';

export const projectUseCases = ofCapability('projects', {
  projectList: useCase({
    kind: 'query',
    permission: 'project.read',
    summary: 'The projects that the token may see, by name',
    input: page,
    output: pageOf(project),
  }),
  projectCreate: useCase({
    kind: 'change',
    permission: 'project.create',
    summary: 'Makes a project',
    input: z.object({ name }),
    output: project,
    errors: ['project.exists'],
    example: { name: 'web' },
  }),
  projectShow: useCase({
    kind: 'query',
    scope: 'project',
    permission: 'project.read',
    summary: 'One project',
    output: project,
  }),
  projectDelete: useCase({
    kind: 'change',
    scope: 'project',
    permission: 'project.delete',
    summary: 'Deletes a project that has nothing in it',
    errors: ['project.not_empty'],
  }),
});
