import { diskList, imageList, nodeList, useCases } from '@m2/contracts';
import { tellAccessChanged } from '../../access/access-changed.js';
import { ask } from '../ask.js';
import { implement } from '../use-case.js';

export const listProjects = implement(useCases.projectList, ({ projects }, { actor }, page) =>
  projects.list(actor.project, page),
);

export const createProject = implement(useCases.projectCreate, ({ projects }, { id }, { name }) =>
  projects.create(id, name),
);

export const showProject = implement(useCases.projectShow, async (_parts, { project }) => project);

export const deleteProject = implement(useCases.projectDelete, async ({ kit, projects }, { project }) => {
  await projects.delete(project, async () => {
    const one = { project: project.id, limit: 1 };
    const [nodes, ...pages] = await Promise.all([
      ask(kit, nodeList, { ...one, own: true }),
      // What others let it use is no reason to keep it.
      ask(kit, imageList, { ...one, own: true }),
      ask(kit, diskList, one),
      ask(kit, diskList, { ...one, trashed: true }),
    ]);
    // An earlier hil-adapter does not know "own", and lists everybody's nodes too.
    const ownNodes = nodes.items.filter((node) => node.project === project.id);
    return [{ items: ownNodes }, ...pages].every(({ items }) => items.length === 0);
  });
  tellAccessChanged(kit);
  return undefined;
});
