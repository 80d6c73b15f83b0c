import { M2Error, useCases } from '@m2/contracts';
import { tellAccessChanged } from '../../access/access-changed.js';
import { implement } from '../use-case.js';

export const showWhoAsks = implement(useCases.whoami, async (_parts, { actor }) => actor);

export const createToken = implement(
  useCases.tokenCreate,
  async ({ tokens, projects }, { id, actor }, { name, role, project }) => {
    const owner = project === undefined ? null : await projects.visible(project, actor.project);
    return tokens.create(id, name, role, owner?.id ?? null);
  },
);

export const listTokens = implement(useCases.tokenList, ({ tokens }, _request, page) => tokens.list(page));

export const revokeToken = implement(useCases.tokenRevoke, async ({ kit, tokens }, { actor }, { id }) => {
  if (id === actor.token) throw new M2Error('request.invalid', 'A token cannot revoke itself');
  await tokens.revoke(id);
  tellAccessChanged(kit);
  return undefined;
});
