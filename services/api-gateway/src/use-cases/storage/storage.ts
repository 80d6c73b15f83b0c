import { quotaSet, quotaShow, storageCheck, storageFreeing, storageRepair, useCases } from '@m2/contracts';
import { ask, askAtLength, tell } from '../ask.js';
import { implement } from '../use-case.js';

export const showQuota = implement(useCases.quotaShow, ({ kit }, { project }) =>
  ask(kit, quotaShow, { project: project.id }),
);

export const setQuota = implement(useCases.quotaSet, ({ kit, projects }, request, limits) =>
  projects.during([request.project.id], () => tell(kit, request, quotaSet, { project: request.project.id, limits })),
);

export const checkStorage = implement(useCases.storageCheck, ({ kit }, _request, page) =>
  askAtLength(kit, storageCheck, page),
);

export const listFreeing = implement(useCases.storageFreeing, ({ kit }, _request, page) =>
  askAtLength(kit, storageFreeing, page),
);

export const repairStorage = implement(useCases.storageRepair, ({ kit }, request) =>
  tell(kit, request, storageRepair, {}),
);
