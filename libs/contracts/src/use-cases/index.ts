import { accessUseCases } from './access.js';
import { descriptionUseCases } from './description.js';
import { diskUseCases } from './disks.js';
import { eventUseCases } from './events.js';
import { imageUseCases } from './images.js';
import { nodeUseCases } from './nodes.js';
import { operationUseCases } from './operations.js';
import { projectUseCases } from './projects.js';
import { provisionUseCases } from './provisions.js';
import { storageUseCases } from './storage.js';

/** Everything that M2 can be asked to do. */
export const useCases = {
  ...accessUseCases,
  ...projectUseCases,
  ...imageUseCases,
  ...diskUseCases,
  ...storageUseCases,
  ...nodeUseCases,
  ...provisionUseCases,
  ...operationUseCases,
  ...eventUseCases,
  ...descriptionUseCases,
};
export type UseCases = typeof useCases;
export type UseCaseName = keyof UseCases;

export { whoami } from './access.js';
export { provisionRequest } from './provisions.js';
export * from './use-case.js';
