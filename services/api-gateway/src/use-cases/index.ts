import type { UseCaseName, UseCases as Contracts } from '@m2/contracts';
import { createToken, listTokens, revokeToken, showWhoAsks } from './access/tokens.js';
import { describeMessages, describeRest, showHealth } from './description/description.js';
import { createDisk } from './disks/create-disk.js';
import {
  deleteDisk,
  flattenDisk,
  listDisks,
  openDiskContent,
  restoreDisk,
  showDisk,
  updateDisk,
} from './disks/disks.js';
import { listTags, rollBackDisk, tagDisk, untagDisk } from './disks/tags.js';
import { listEvents } from './events/events.js';
import {
  deleteImage,
  exportImage,
  importImage,
  listImages,
  openImageContent,
  openImageUpload,
  showImage,
  showImageTree,
  updateImage,
} from './images/images.js';
import {
  listNodes,
  markBroken,
  markRepaired,
  registerNode,
  removeNode,
  setBmc,
  showNode,
  showPower,
} from './nodes/nodes.js';
import {
  abandonOperation,
  cancelOperation,
  listOperations,
  planAbandon,
  planSkip,
  resumeOperation,
  showOperation,
  skipStep,
} from './operations/operations.js';
import { createProject, deleteProject, listProjects, showProject } from './projects/projects.js';
import { createProvision, deleteProvision, listProvisions, showProvision } from './provisions/provisions.js';
import { checkStorage, listFreeing, repairStorage, setQuota, showQuota } from './storage/storage.js';
import type { UseCase } from './use-case.js';

/** A contract without an implementation does not compile. */
export const implementations: { [Name in UseCaseName]: UseCase<Contracts[Name]> } = {
  whoami: showWhoAsks,
  tokenCreate: createToken,
  tokenList: listTokens,
  tokenRevoke: revokeToken,

  projectList: listProjects,
  projectCreate: createProject,
  projectShow: showProject,
  projectDelete: deleteProject,

  imageList: listImages,
  imageImport: importImage,
  imageShow: showImage,
  imageTree: showImageTree,
  imageUpdate: updateImage,
  imageExport: exportImage,
  imageDelete: deleteImage,
  imageContent: openImageContent,
  imageUpload: openImageUpload,

  diskList: listDisks,
  diskCreate: createDisk,
  diskShow: showDisk,
  diskUpdate: updateDisk,
  diskDelete: deleteDisk,
  diskRestore: restoreDisk,
  diskFlatten: flattenDisk,
  diskTags: listTags,
  diskTag: tagDisk,
  diskUntag: untagDisk,
  diskRollback: rollBackDisk,
  diskContent: openDiskContent,

  quotaShow: showQuota,
  quotaSet: setQuota,
  storageCheck: checkStorage,
  storageFreeing: listFreeing,
  storageRepair: repairStorage,

  nodeList: listNodes,
  nodeRegister: registerNode,
  nodeShow: showNode,
  nodeSetBmc: setBmc,
  nodePower: showPower,
  nodeRemove: removeNode,
  nodeMarkBroken: markBroken,
  nodeMarkRepaired: markRepaired,

  provisionList: listProvisions,
  provisionCreate: createProvision,
  provisionShow: showProvision,
  provisionDelete: deleteProvision,

  operationList: listOperations,
  operationShow: showOperation,
  operationCancel: cancelOperation,
  operationResume: resumeOperation,
  operationSkipPlan: planSkip,
  operationSkipStep: skipStep,
  operationAbandonPlan: planAbandon,
  operationAbandon: abandonOperation,

  eventList: listEvents,

  openapi: describeRest,
  asyncapi: describeMessages,
  health: showHealth,
};
